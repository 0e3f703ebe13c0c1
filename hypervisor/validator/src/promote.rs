//! Making a frame a table: 512 entries, resumable at each.
//!
//! Promotion goes up through the entries and takes the reference that each holds; [`crate::demote`]
//! goes down and drops them. Either may stop at any entry, because the budget is used up or another
//! CPU is working on a frame. The table is then *partial*: entries `[0, resume)` hold references, no
//! CPU is working on it, and any can go on or go back.
//!
//! A promotion that meets a bad entry drops all its references before it reports it. Otherwise the
//! tables below would stay typed because of a table that never was one. If the budget doesn't reach
//! that far, the promotion is preempted, and notes the bad entry as *suspect*. When it is resumed, it
//! drops the rest and then checks the suspect before all other entries. So the refusal and its
//! evidence come out in the end, and no work is done twice.
//!
//! Promotion calls [`Validator::get_type_ref`] for the tables below, which promotes them: one level
//! down at each step, four at most (`INV-BOUND`), since a table never holds a reference of its own
//! level.

use crate::addr::{ENTRIES, Index, Level, Mfn};
use crate::context::{OpContext, OpError};
use crate::entry::{EntryRules, PRESENT};
use crate::frame_table::{FrameEntry, Kind, Progress};
use crate::platform::{GROUP, Platform};
use crate::validator::Validator;
use pinfold_abi::mmu::EntryFlags;

impl<P: Platform> Validator<'_, P> {
    /// Validates a table that is in state validating, from `progress` on. Leaves it validated with the
    /// caller's reference, idle if it is refused, or partial if preempted.
    pub(crate) fn promote(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        progress: Progress,
    ) -> Result<(), OpError> {
        let Some(level) = kind.level() else {
            debug_assert!(false, "only tables are promoted");
            return Err(OpError::Preempted);
        };
        let mut from = usize::from(progress.resume);
        if let Some(suspect) = progress.suspect {
            self.recheck(op, mfn, frame, level, progress, suspect)?;
            from = 0;
        }
        let (at, stopped) = if level == Level::L1 {
            self.get_l1_entries(op, mfn, from)
        } else {
            self.get_upper_entries(op, mfn, level, from)
        };
        match stopped {
            None => {
                if level == Level::L4 {
                    self.platform.install_hypervisor_slots(op.dom, mfn);
                }
                frame.publish(kind, None);
                Ok(())
            }
            Some(halt) => Err(self.stop_promotion(op, mfn, frame, level, progress.live, at, halt)),
        }
    }

    /// Takes the references that the entries of an L1 table hold, from a slot on. Returns the slot
    /// where it stopped, and why, if before the end.
    fn get_l1_entries(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        from: usize,
    ) -> (usize, Option<OpError>) {
        let end = ENTRIES.min(from.saturating_add(op.budget.left()));
        let forced = self.platform.forced_flags(op.dom);
        let mut next = from;
        while next < end {
            if self.is_zero_group(table, next, end) {
                next += GROUP;
                continue;
            }
            let group_end = end.min((next / GROUP + 1) * GROUP);
            for slot in next..group_end {
                if let Err(halt) = self.get_l1e_at(op, table, slot, forced) {
                    op.budget.charge(slot - from);
                    return (slot, Some(halt));
                }
            }
            next = group_end;
        }
        op.budget.charge(end - from);
        (end, (end < ENTRIES).then_some(OpError::Preempted))
    }

    /// Takes the reference that one entry of an L1 table holds, and stores its effective form.
    #[inline(always)]
    fn get_l1e_at(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        slot: usize,
        forced: EntryFlags,
    ) -> Result<(), OpError> {
        let index = Index::new_truncate(slot as u64);
        let raw = self.read(table, index);
        if raw & PRESENT == 0 {
            return if raw == 0 { Ok(()) } else { self.check_absent(op, raw) };
        }
        self.get_l1e(op, table, index, raw)?;
        let effective = EntryRules::effective(Level::L1, raw, forced);
        if effective != raw {
            self.platform.write_entry(table, index, effective);
        }
        Ok(())
    }

    /// The same for a table of a level above L1.
    fn get_upper_entries(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        level: Level,
        from: usize,
    ) -> (usize, Option<OpError>) {
        let forced = self.platform.forced_flags(op.dom);
        let mut next = from;
        while next < ENTRIES {
            let slot = next;
            let index = Index::new_truncate(slot as u64);
            next += 1;
            // What a guest wrote in the hypervisor's slots is ignored, and replaced at the end.
            if level == Level::L4 && index.is_reserved() {
                continue;
            }
            if op.budget.left() >= GROUP && self.is_zero_group(table, slot, ENTRIES) {
                op.budget.charge(GROUP);
                next = slot + GROUP;
                continue;
            }
            if op.budget.is_used_up() {
                return (slot, Some(OpError::Preempted));
            }
            let raw = self.read(table, index);
            if raw == 0 {
                op.budget.charge(1);
                continue;
            }
            if let Err(halt) = self.get_entry(op, level, table, index, raw) {
                return (slot, Some(halt));
            }
            // Charged afterwards, so that the smallest budget reaches the entries below.
            op.budget.charge(1);
            let effective = EntryRules::effective(level, raw, forced);
            if effective != raw && raw & PRESENT != 0 {
                self.platform.write_entry(table, index, effective);
            }
        }
        (ENTRIES, None)
    }

    /// Ends a promotion that stopped at a slot.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "one call site; they are the state of promote")]
    fn stop_promotion(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        level: Level,
        live: bool,
        at: usize,
        halt: OpError,
    ) -> OpError {
        let kind = Kind::table(level);
        let slot = at as u16;
        if halt == OpError::Preempted {
            frame.suspend(kind, Progress { resume: slot, suspect: None, live });
            return halt;
        }
        let index = Index::new_truncate(at as u64);
        op.set_location(Some(level), mfn, index, self.read(mfn, index));
        match self.put_entries_down(op, mfn, level, at) {
            0 => {
                self.finish_table(frame, kind, live);
                OpError::Refused
            }
            left => {
                frame.suspend(kind, Progress { resume: left as u16, suspect: Some(slot), live });
                OpError::Preempted
            }
        }
    }

    /// Drops the remaining references of a promotion that failed, and checks the entry that made it
    /// fail again. `Ok` if the entry is good now: the promotion then starts over.
    #[cold]
    fn recheck(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        level: Level,
        progress: Progress,
        suspect: u16,
    ) -> Result<(), OpError> {
        let kind = Kind::table(level);
        let left = self.put_entries_down(op, mfn, level, usize::from(progress.resume));
        let back = Progress { resume: left as u16, ..progress };
        if left != 0 || op.budget.is_used_up() {
            frame.suspend(kind, back);
            return Err(OpError::Preempted);
        }
        let index = Index::new_truncate(u64::from(suspect));
        let raw = self.read(mfn, index);
        match self.get_entry(op, level, mfn, index, raw) {
            Ok(()) => {
                self.put_entry(op, level, mfn, raw);
                Ok(())
            }
            Err(OpError::Preempted) => {
                frame.suspend(kind, back);
                Err(OpError::Preempted)
            }
            Err(OpError::Refused) => {
                op.set_location(Some(level), mfn, index, raw);
                self.finish_table(frame, kind, progress.live);
                Err(OpError::Refused)
            }
        }
    }
}
