//! Changing one entry.
//!
//! What is done depends on the frame that holds the entry. In a validated table the entry is checked; in
//! a frame that the guest may write to itself it is a plain store; in a descriptor page it is refused.
//! A type reference of the table is held meanwhile, so that it can't be taken apart or get another
//! owner.
//!
//! The references of the new entry are taken before it is stored, those of the old one dropped after: a
//! live entry always holds what it must. A CPU drops what that entry held which *its* exchange replaced,
//! so two CPUs may change the same entry at once.

use crate::addr::{Index, Level, Mfn};
use crate::budget::Budget;
use crate::context::{OpContext, OpError};
use crate::entry::{ACCESSED_DIRTY, Entry, EntryRules, HARMLESS, PRESENT};
use crate::frame_table::{FrameEntry, Kind, State};
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Cause, Error, Operation};
use crate::validator::Validator;

/// A change of one entry.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The domain that asks.
    pub dom: DomId,
    /// The owner of the table.
    pub table_owner: DomId,
    /// The owner of the frame that the entry points to. It must be the table's owner: frames of others
    /// are mapped by a grant only ([`Validator::map_granted`]).
    pub target_owner: DomId,
    /// The frame that holds the entry.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The new entry.
    pub value: u64,
    /// Keep the accessed and dirty bits that are set.
    pub preserve_ad: bool,
}

/// What an update found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The entry that was there.
    pub previous: Entry,
    /// The level of the live table that holds it; `None` for a plain store.
    pub level: Option<Level>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Swap {
    /// The entry was as expected, and is the new one.
    Done,
    /// The entry was this one, and still is.
    Differs(Entry),
}

impl<P: Platform> Validator<'_, P> {
    /// Changes an entry.
    ///
    /// Does not flush what the old entry mapped: the guest does that when it wants to. Where an invariant
    /// depends on it, the change of type flushes.
    ///
    /// # Errors
    /// Refused: the table isn't its owner's, or not writable; the new entry is one that the level
    /// doesn't permit, or its target is refused. The old entry stays.
    #[inline]
    pub fn update(&self, update: Update, budget: &mut Budget) -> Result<Updated, Error> {
        let mut op = OpContext::new(Operation::Update, update.table_owner, budget);
        self.update_any(&mut op, &update).map_err(|halt| op.to_error(halt))
    }

    fn update_any(&self, op: &mut OpContext<'_>, update: &Update) -> Result<Updated, OpError> {
        let Update { table, index, .. } = *update;
        if update.table_owner != update.target_owner {
            return Err(op.refuse(Cause::ForeignMapping, table, None, None));
        }
        self.run_deferred(op)?;
        let frame = self.require_frame(op, table)?;
        let Some(kind) = self.get_live_table_ref(op, frame) else {
            return self.store_plainly(op, update, frame);
        };
        let level = kind.level().unwrap_or(Level::L1);
        let change = Change { table, index, value: update.value, keep: update.kept() };
        let changed = self.change(op, level, &change);
        self.put_table_ref(op, table, frame, kind);
        match changed {
            Ok(previous) => Ok(Updated { previous: Entry::new(previous), level: Some(level) }),
            Err(halt) => Err(halt),
        }
    }

    /// Takes a reference of a live table of the operation's domain, of whatever level.
    #[inline]
    fn get_live_table_ref(&self, op: &OpContext<'_>, frame: &FrameEntry) -> Option<Kind> {
        if !frame.is_owned(op.owned) {
            return None;
        }
        let kind = frame.get_table_ref()?;
        if frame.is_owned(op.owned) {
            return Some(kind);
        }
        self.undo_join_after_owner_change(frame, kind);
        None
    }

    /// What is stored for a present entry that is accepted.
    #[inline(always)]
    fn effective(&self, op: &OpContext<'_>, level: Level, raw: u64) -> u64 {
        EntryRules::effective(level, raw, self.platform.forced_flags(op.dom))
    }

    /// Changes an entry of a validated table of which a reference is held. Returns the old entry.
    #[inline]
    fn change(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        change: &Change,
    ) -> Result<u64, OpError> {
        let Change { table, index, value, keep } = *change;
        // First: a guest must not change the hypervisor's slots, not even harmless bits of them.
        if let Err(halt) = self.check_slot(op, level, table, index) {
            op.set_location(Some(level), table, index, value);
            return Err(halt);
        }
        let effective = if value & PRESENT != 0 { self.effective(op, level, value) } else { value };
        // The fast path (INV-FAST): a present entry with permitted bits, which differs from the old one
        // in harmless bits only, holds the same references.
        if value & PRESENT != 0 && value & self.rules.forbidden(level) == 0 {
            let mut current = self.read(table, index);
            while (current ^ effective) & !HARMLESS == 0 {
                let new = effective | current & keep;
                match self.platform.compare_exchange_entry(table, index, current, new) {
                    Ok(()) => return Ok(current),
                    Err(now) => current = now,
                }
            }
        }
        self.change_fully(op, level, change, effective)
    }

    fn change_fully(
        &self,
        op: &mut OpContext<'_>,
        level: Level,
        change: &Change,
        effective: u64,
    ) -> Result<u64, OpError> {
        let Change { table, index, value, keep } = *change;
        if let Err(halt) = self.get_entry(op, level, table, index, value) {
            op.set_location(Some(level), table, index, value);
            return Err(halt);
        }
        let mut current = self.read(table, index);
        loop {
            let new = effective | current & keep;
            match self.platform.compare_exchange_entry(table, index, current, new) {
                Ok(()) => break,
                Err(now) => current = now,
            }
        }
        self.put_entry(op, level, table, current);
        Ok(current)
    }

    /// Stores to a frame that is no validated table, but one that the guest may write to itself.
    #[inline(never)]
    fn store_plainly(
        &self,
        op: &mut OpContext<'_>,
        update: &Update,
        frame: &FrameEntry,
    ) -> Result<Updated, OpError> {
        let Update { table, index, value, .. } = *update;
        if let Err(halt) = self.get_type_ref(op, table, frame, Kind::Writable) {
            // Another CPU is making it a table. The caller tries again, and finds it validated.
            if halt == OpError::Refused && op.lost_race_for_table() {
                return Err(OpError::Preempted);
            }
            op.set_location(None, table, index, value);
            return Err(halt);
        }
        // A plain word has no accessed and dirty bits to preserve, whatever was asked.
        let current = self.read(table, index);
        self.platform.write_entry(table, index, value);
        self.put_unmapped_writable(frame);
        Ok(Updated { previous: Entry::new(current), level: None })
    }

    /// Emulates a guest's store to an L1 table that it has mapped read-only: the entry becomes `new`, if it
    /// is `expected`, which the instruction read.
    ///
    /// # Errors
    /// Refused: the frame is no L1 table of the domain's ([`Cause::NotATable`]), or as
    /// [`Validator::update`].
    pub fn update_l1_cas(
        &self,
        dom: DomId,
        table: Mfn,
        index: Index,
        expected: u64,
        new: u64,
        budget: &mut Budget,
    ) -> Result<Swap, Error> {
        let mut op = OpContext::new(Operation::EmulatedStore, dom, budget);
        self.cas_l1e(&mut op, table, index, expected, new).map_err(|halt| op.to_error(halt))
    }

    fn cas_l1e(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        index: Index,
        expected: u64,
        new: u64,
    ) -> Result<Swap, OpError> {
        self.run_deferred(op)?;
        let frame = self.require_frame(op, table)?;
        if !self.get_live_type_ref(op, frame, Kind::L1) {
            let halt = op.refuse(Cause::NotATable, table, Some(frame), Some(Kind::L1));
            // Another CPU changed the count, or is working on the table.
            let soon = frame.type_word().kind() == Kind::L1 && op.lost_race_for_table();
            return Err(if soon { OpError::Preempted } else { halt });
        }
        let swapped = self.exchange_l1e(op, table, index, expected, new);
        self.put_table_ref(op, table, frame, Kind::L1);
        swapped
    }

    pub(crate) fn exchange_l1e(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        index: Index,
        expected: u64,
        new: u64,
    ) -> Result<Swap, OpError> {
        let current = self.read(table, index);
        if current != expected {
            return Ok(Swap::Differs(Entry::new(current)));
        }
        let live = new & PRESENT != 0;
        let effective = if live { self.effective(op, Level::L1, new) } else { new };
        let harmless = live
            && new & self.rules.forbidden(Level::L1) == 0
            && (current ^ effective) & !HARMLESS == 0;
        if !harmless && let Err(halt) = self.get_entry(op, Level::L1, table, index, new) {
            op.set_location(Some(Level::L1), table, index, new);
            return Err(halt);
        }
        let swapped = self.platform.compare_exchange_entry(table, index, expected, effective);
        let unused = match swapped {
            _ if harmless => None,
            Ok(()) => Some(expected),
            Err(_) => Some(new),
        };
        if let Some(entry) = unused {
            self.put_entry(op, Level::L1, table, entry);
        }
        Ok(match swapped {
            Ok(()) => Swap::Done,
            Err(now) => Swap::Differs(Entry::new(now)),
        })
    }
}

/// A change of an entry of a held table.
struct Change {
    table: Mfn,
    index: Index,
    value: u64,
    /// Bits of the old entry that stay.
    keep: u64,
}

impl Update {
    #[inline]
    const fn kept(&self) -> u64 {
        if self.preserve_ad { ACCESSED_DIRTY } else { 0 }
    }
}

impl OpContext<'_> {
    /// Whether the refusal's frame was a table of the operation's domain that another CPU is working on: the
    /// operation may succeed if it is tried again.
    #[cold]
    pub(crate) fn lost_race_for_table(&self) -> bool {
        self.evidence().and_then(|evidence| evidence.seen).is_some_and(|seen| {
            seen.owner() == Some(self.dom)
                && seen.kind().level().is_some()
                && !matches!(seen.state(), State::Idle | State::Partial)
                && !seen.is_full()
        })
    }
}
