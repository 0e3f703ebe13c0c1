//! References that page-table entries hold.

use crate::addr::{Index, Level, Mfn};
use crate::context::{OpContext, OpError};
use crate::entry::{BadBits, Entry, PRESENT, WRITABLE, target};
use crate::frame_table::{FrameEntry, Kind, State};
use crate::memtype::memtype_of;
use crate::platform::Platform;
use crate::refusal::{Cause, EntryLocation};
use crate::validator::Validator;

impl<P: Platform> Validator<'_, P> {
    /// Takes the reference that a present L1 entry holds (`INV-ENTRY`). The fast path is for write-back
    /// frames: it compares the word with that of one.
    #[inline(always)]
    pub(crate) fn get_l1e(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        index: Index,
        raw: u64,
    ) -> Result<(), OpError> {
        if raw & self.rules.unusual_leaf() == 0
            && let Some(frame) = self.frame(target(raw))
        {
            let held = if raw & WRITABLE == 0 {
                frame.get_owned(op.owned)
            } else {
                self.get_live_type_ref(op, frame, Kind::Writable) || self.begin_writable(op, frame)
            };
            if held {
                return Ok(());
            }
        }
        self.get_l1e_slow(op, table, index, raw)
    }

    /// Takes the first writable reference of a frame that is idle and needs no flush.
    #[inline(never)]
    fn begin_writable(&self, op: &OpContext<'_>, frame: &FrameEntry) -> bool {
        if !frame.get_owned(op.owned) {
            return false;
        }
        let begun = frame.begin_writable();
        if !begun {
            frame.put();
        }
        begun
    }

    #[cold]
    #[inline(never)]
    fn get_l1e_slow(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        index: Index,
        raw: u64,
    ) -> Result<(), OpError> {
        self.check_bits(op, Level::L1, raw)?;
        let mfn = target(raw);
        let frame = self.require_frame(op, mfn)?;
        let kind = (raw & WRITABLE != 0).then_some(Kind::Writable);
        let location =
            EntryLocation { level: Some(Level::L1), table, index, entry: Entry::new(raw) };
        self.get_ref_with_memtype(op, mfn, frame, kind, memtype_of(raw), Some(location))
    }

    /// Drops the reference that a present L1 entry held. The entry is gone from the table.
    #[inline(always)]
    pub(crate) fn put_l1e(&self, raw: u64) {
        let Some(frame) = self.frame(target(raw)) else {
            debug_assert!(false, "INV-ENTRY: a live entry points to no frame");
            return;
        };
        if raw & WRITABLE == 0 {
            frame.put();
        } else {
            self.put_mapped_writable(frame);
        }
    }

    /// Takes the reference that a present entry above L1 holds.
    pub(crate) fn get_upper_entry(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        table: Mfn,
        raw: u64,
    ) -> Result<(), OpError> {
        self.check_bits(op, level, raw)?;
        let mfn = target(raw);
        if mfn == table {
            // Nothing can be written through a read-only entry, whatever is below it. It takes no
            // reference, which would keep the table alive for ever.
            let linear_root = level == Level::L4 && self.policy.refuse_linear_roots;
            return if raw & WRITABLE == 0 && !linear_root {
                Ok(())
            } else {
                let frame = self.frame(mfn);
                Err(op.refuse(Cause::LinearNotAllowed, mfn, frame, Some(Kind::table(level))))
            };
        }
        let Some(below) = level.below() else {
            debug_assert!(false, "L1 entries are leaves");
            return Err(OpError::Preempted);
        };
        let frame = self.require_frame(op, mfn)?;
        let taken = self.get_type_ref(op, mfn, frame, Kind::table(below));
        if taken == Err(OpError::Refused) {
            op.explain_linear(Kind::table(level));
        }
        taken
    }

    /// Drops the reference that a present entry above L1 held.
    pub(crate) fn put_upper_entry(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        table: Mfn,
        raw: u64,
    ) {
        let mfn = target(raw);
        if mfn == table {
            return;
        }
        let (Some(below), Some(frame)) = (level.below(), self.frame(mfn)) else {
            debug_assert!(false, "INV-ENTRY: a live entry points to no frame");
            return;
        };
        self.put_table_ref(op, mfn, frame, Kind::table(below));
    }

    /// Takes the reference that an entry holds, of any level, before it is stored. One that is not
    /// present holds none, but is checked.
    #[inline]
    pub(crate) fn get_entry(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        table: Mfn,
        index: Index,
        raw: u64,
    ) -> Result<(), OpError> {
        if raw & PRESENT == 0 {
            self.check_absent(op, raw)
        } else if level == Level::L1 {
            self.get_l1e(op, table, index, raw)
        } else {
            self.get_upper_entry(op, level, table, raw)
        }
    }

    /// Drops the reference that an entry of any level held, after it was replaced.
    #[inline]
    pub(crate) fn put_entry(&self, op: &mut OpContext<'_>, level: Level, table: Mfn, raw: u64) {
        if raw & PRESENT == 0 {
        } else if level == Level::L1 {
            self.put_l1e(raw);
        } else {
            self.put_upper_entry(op, level, table, raw);
        }
    }

    /// Checks the bits of a present entry.
    #[inline]
    pub(crate) fn check_bits(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        raw: u64,
    ) -> Result<(), OpError> {
        if raw & self.rules.forbidden(level) == 0 {
            return Ok(());
        }
        let cause = match self.rules.explain(level, raw) {
            BadBits::Reserved(bits) => Cause::ReservedBits(bits),
            BadBits::SuperPage => Cause::SuperPage,
            BadBits::Forbidden(flags) => Cause::ForbiddenFlags(flags),
        };
        Err(op.refuse(cause, target(raw), None, None))
    }

    /// Checks an entry that isn't present (`INV-ABSENT`).
    #[inline]
    pub(crate) fn check_absent(&self, op: &mut OpContext<'_>, raw: u64) -> Result<(), OpError> {
        if self.absent.is_plainly_harmless(raw) {
            return Ok(());
        }
        self.check_absent_address(op, raw)
    }

    #[cold]
    fn check_absent_address(&self, op: &mut OpContext<'_>, raw: u64) -> Result<(), OpError> {
        // The owner does not matter: the entry may stay when the frame gets another one.
        match self.absent.memory(raw) {
            Some(mfn) => Err(op.refuse(Cause::AbsentNamesMemory, mfn, self.frame(mfn), None)),
            None => Ok(()),
        }
    }

    /// Refuses the hypervisor's slots of a root.
    #[inline]
    pub(crate) fn check_slot(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        table: Mfn,
        index: Index,
    ) -> Result<(), OpError> {
        if level == Level::L4 && index.is_reserved() {
            return Err(op.refuse(Cause::ReservedSlot, table, self.frame(table), None));
        }
        Ok(())
    }
}

impl OpContext<'_> {
    /// Changes the cause if the target of an upper entry was refused because it is a table of the
    /// entry's own level.
    #[cold]
    fn explain_linear(&mut self, own: Kind) {
        self.amend(|evidence| {
            let held =
                evidence.seen.is_some_and(|seen| seen.kind() == own && seen.state() != State::Idle);
            if evidence.location.is_none() && evidence.cause == Cause::WrongType && held {
                evidence.cause = Cause::LinearNotAllowed;
            }
        });
    }
}
