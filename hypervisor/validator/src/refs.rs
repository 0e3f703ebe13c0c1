//! Taking and dropping references: of frames by type, and of what an entry points to.
//!
//! Each has a fast door, inlined and lean, for the case that is nearly all cases, and a slow one
//! behind it that knows all of them.

use crate::entry::{BadBits, Entry, PRESENT, WRITABLE};
use crate::frame::{Index, Level, Mfn};
use crate::frame_table::{
    BeginError, Begun, FrameEntry, Kind, Progress, PutOutcome, RefError, State,
};
use crate::memtype::{FrameMemType, memtype_of};
use crate::operation::{OpContext, OpError};
use crate::platform::Platform;
use crate::refusal::{Cause, EntryLocation};
use crate::validator::Validator;
use pinfold_abi::mmu::{ENTRY_ADDRESS, MemoryType};

/// The frame that the address bits of an entry name.
#[inline(always)]
pub(crate) const fn target(raw: u64) -> Mfn {
    Mfn::new((raw & ENTRY_ADDRESS) >> 12)
}

impl<P: Platform> Validator<'_, P> {
    /// Takes a reference of a type that is held already, by a frame of the operation's domain.
    #[inline(always)]
    pub(crate) fn get_live_type_ref(
        &self,
        op: &OpContext<'_>,
        frame: &FrameEntry,
        kind: Kind,
    ) -> bool {
        if !frame.is_owned(op.owned) || !frame.get_type_ref(kind) {
            return false;
        }
        if frame.is_owned(op.owned) {
            return true;
        }
        self.undo_join_after_owner_change(frame, kind);
        false
    }

    /// The frame changed hands between the look at its owner and the reference: gives it back.
    #[cold]
    #[inline(never)]
    pub(crate) fn undo_join_after_owner_change(&self, frame: &FrameEntry, kind: Kind) {
        // A reference that mapped nothing; if it was the last by now, the table's true holders
        // dropped theirs meanwhile, and left the taking apart to us. Partial, whole, it waits for
        // whoever wants the frame.
        match frame.put_type_ref(kind, None) {
            PutOutcome::StillHeld => {}
            PutOutcome::Idle => frame.put(),
            PutOutcome::LastOfTable => frame.suspend(kind, Progress::WHOLE),
        }
    }

    /// Takes a type reference of a frame, promoting it if it is the first.
    #[inline]
    pub(crate) fn get_type_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        if self.get_live_type_ref(op, frame, kind) {
            Ok(())
        } else {
            self.get_type_ref_slow(op, mfn, frame, kind)
        }
    }

    #[inline(never)]
    fn get_type_ref_slow(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        // Whatever the hypervisor does with a frame, it does through its own view.
        self.get_ref_with_memtype(op, mfn, frame, Some(kind), MemoryType::WriteBack, None)
    }

    /// Takes a reference of a frame for a use that is cached in one way: a general one, or one of a
    /// type. `place`: the entry that wants it, if one does.
    pub(crate) fn get_ref_with_memtype(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Option<Kind>,
        wanted: MemoryType,
        location: Option<EntryLocation>,
    ) -> Result<(), OpError> {
        let mixes = self.reserve_memtype(op, mfn, frame, wanted, kind, location.is_some())?;
        if let Some(kind) = kind {
            self.get_reserved_type_ref(op, mfn, frame, kind)?;
        }
        if let Some(present) = mixes {
            let cause = Cause::CacheAlias { wanted, present };
            self.report_conflict(op, mfn, frame, cause, kind, location);
        }
        Ok(())
    }

    /// Takes a type reference of a frame, with a general one in hand that becomes the type's, or is
    /// dropped.
    fn get_reserved_type_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        if frame.ref_word().is_shared() && kind != Kind::Writable {
            frame.put();
            return Err(op.refuse(Cause::SharedFrame, mfn, Some(frame), Some(kind)));
        }
        loop {
            let entered = match frame.begin_type(kind) {
                Ok(entered) => entered,
                Err(why) => {
                    frame.put();
                    return Err(self.begin_error(op, mfn, frame, kind, why));
                }
            };
            match entered {
                Begun::Shared => {
                    frame.put();
                    return Ok(());
                }
                Begun::Started(before) => {
                    // INV-TLB: the type is ours; only now flush, and only then read. What was the
                    // same before owes nothing: its stale translations mean what new ones mean.
                    let changes = before.kind() != kind;
                    if changes {
                        self.flush_before_change(op, frame, before.stamp());
                    }
                    let stamp = if changes { None } else { before.stamp() };
                    if kind == Kind::Writable {
                        frame.publish(kind, stamp);
                        return Ok(());
                    }
                    // INV-COHERENT: mixed since we took our reference, or about to be.
                    let caching = frame.memtype_of_typed();
                    if !caching.is_write_back() {
                        frame.finish(kind, stamp);
                        frame.put();
                        return Err(self.memtype_conflict(op, mfn, frame, kind, caching));
                    }
                    if kind == Kind::Descriptor {
                        return self.promote_descriptors(op, mfn, frame);
                    }
                    self.table_map.note_table(mfn);
                    // What it was, walks may remember: they do still if it fails to be that again.
                    let progress = Progress { live: stamp.is_some(), ..Progress::START };
                    return self.promote(op, mfn, frame, kind, progress);
                }
                Begun::Resumed(progress) => {
                    // The type kept a general reference while it was partial.
                    frame.put();
                    return self.promote(op, mfn, frame, kind, progress);
                }
                Begun::Undoing(progress) => {
                    let was = frame.type_word().kind();
                    if !self.demote(op, mfn, frame, was, progress) {
                        frame.put();
                        return Err(OpError::Preempted);
                    }
                }
            }
        }
    }

    /// Flushes the CPUs that may remember the frame as what it was (`INV-TLB`, `INV-FOREIGN`).
    ///
    /// Whoever mapped it for another domain marked it as lent before the entry was there, and let go
    /// of the type after; we have the type by now, so we see the mark.
    fn flush_before_change(&self, op: &OpContext<'_>, frame: &FrameEntry, stamp: Option<u64>) {
        match stamp {
            Some(stamp) if frame.ref_word().is_foreign_mapped() => {
                self.flush_if_behind(stamp, self.platform.all_cpus());
            }
            _ => self.flush_since(op.dom, stamp),
        }
    }

    /// Takes a general reference of a frame that isn't looked into.
    pub(crate) fn get(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: Option<Kind>,
    ) -> Result<(), OpError> {
        frame.get(op.dom).map_err(|why| {
            let cause = match why {
                RefError::Overflow => Cause::CountOverflow,
                RefError::NotOwned | RefError::OtherMemType(_) | RefError::Contended => {
                    Cause::NotOwned
                }
            };
            op.refuse(cause, mfn, Some(frame), wanted)
        })
    }

    #[cold]
    fn memtype_conflict(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        present: FrameMemType,
    ) -> OpError {
        if present == FrameMemType::Changing {
            return OpError::Preempted;
        }
        let cause = Cause::CacheAlias { wanted: MemoryType::WriteBack, present };
        op.refuse(cause, mfn, Some(frame), Some(kind))
    }

    #[cold]
    fn begin_error(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        why: BeginError,
    ) -> OpError {
        let cause = match why {
            BeginError::Contended => return OpError::Preempted,
            BeginError::Overflow(_) => Cause::CountOverflow,
            BeginError::OtherType(seen) => match (seen.kind(), kind) {
                (Kind::Writable, _) => Cause::WritableAlias,
                (_, Kind::Writable) => Cause::TableInUse,
                _ => Cause::WrongType,
            },
        };
        op.refuse(cause, mfn, Some(frame), Some(kind))
    }

    /// Drops a type reference, demoting the table if it was the last. Always succeeds: what the
    /// budget doesn't reach is left as an orphan, for the domain's next operation.
    #[inline]
    pub(crate) fn put_table_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) {
        if !frame.try_put_table_ref() && frame.put_type_ref(kind, None) == PutOutcome::LastOfTable {
            self.demote(op, mfn, frame, kind, Progress::WHOLE);
        }
    }

    /// Drops a writable reference of a mapping that is gone from the tables.
    #[inline(always)]
    pub(crate) fn put_mapped_writable(&self, frame: &FrameEntry) {
        if frame.put_writable_ref(|| self.clock.now()) {
            frame.put();
        }
    }

    /// Drops a writable reference of ours, which no guest's TLB ever saw.
    pub(crate) fn put_unmapped_writable(&self, frame: &FrameEntry) {
        if frame.put_type_ref(Kind::Writable, None) == PutOutcome::Idle {
            frame.put();
        }
    }

    /// Takes what a present L1 entry holds (`INV-ENTRY`). Of a frame that isn't write-back the
    /// words differ from what the fast path compares with.
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

    /// Takes the first writable reference of a frame, in the plain case.
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

    /// Drops what a present L1 entry held; the entry is out of reach of every page walk.
    #[inline(always)]
    pub(crate) fn put_l1e(&self, raw: u64) {
        let Some(frame) = self.frame(target(raw)) else {
            debug_assert!(false, "INV-ENTRY: a live entry points nowhere");
            return;
        };
        if raw & WRITABLE == 0 {
            frame.put();
        } else {
            self.put_mapped_writable(frame);
        }
    }

    /// Takes what a present entry of a table above L1 holds.
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
            // Read-only all the way down, whatever is below, so nothing can be written through it;
            // and a reference to itself would keep the table alive for ever.
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

    /// Drops what a present entry above L1 held.
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
            debug_assert!(false, "INV-ENTRY: a live entry points nowhere");
            return;
        };
        self.put_table_ref(op, mfn, frame, Kind::table(below));
    }

    /// Takes what any entry that is to be stored holds, present or not.
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

    /// Drops what any entry that was stored held.
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
        // Whose it is doesn't count: the entry stays when the frame is given to somebody else.
        match self.absent.memory(raw) {
            Some(mfn) => Err(op.refuse(Cause::AbsentNamesMemory, mfn, self.frame(mfn), None)),
            None => Ok(()),
        }
    }

    /// Reads an entry.
    #[inline(always)]
    pub(crate) fn read(&self, table: Mfn, index: Index) -> u64 {
        self.platform.read_entry(table, index)
    }
}

impl OpContext<'_> {
    /// The target of an upper entry could not be had because it is a table of the entry's own
    /// level: says so.
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
