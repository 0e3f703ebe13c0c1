//! Taking a table apart: the references of its entries are dropped, from the last entry to the first.
//!
//! Resumable at each entry, as [`crate::promote`]. Whoever drops the last reference of a table has no
//! call to resume, so what the budget does not reach is noted in [`crate::deferred`].

use crate::addr::{Index, Level, Mfn};
use crate::context::{OpContext, OpError};
use crate::entry::PRESENT;
use crate::frame_table::{FrameEntry, Kind, Progress};
use crate::platform::{GROUP, Platform};
use crate::validator::Validator;

impl<P: Platform> Validator<'_, P> {
    /// Takes a table apart that is in state devalidating. `true`: it is idle. `false`: the budget is
    /// used up, the table is partial, and the rest is deferred to the domain's next operation.
    pub(crate) fn demote(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        progress: Progress,
    ) -> bool {
        let Some(level) = kind.level() else {
            debug_assert!(false, "only tables are demoted");
            return true;
        };
        if level == Level::L4 {
            self.platform.clear_hypervisor_slots(mfn);
        }
        match self.put_entries_down(op, mfn, level, usize::from(progress.resume)) {
            0 => {
                self.finish_table(frame, kind, progress.live);
                true
            }
            left => {
                let rest = Progress { resume: left as u16, suspect: None, live: progress.live };
                frame.suspend(kind, rest);
                self.deferred.add(op.dom, mfn);
                false
            }
        }
    }

    /// Drops the references of entries `[0, from)`, from the last to the first, as far as the budget
    /// goes. Returns how many entries still hold theirs.
    pub(crate) fn put_entries_down(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        level: Level,
        from: usize,
    ) -> usize {
        if level == Level::L1 {
            let down_to = from.saturating_sub(op.budget.left());
            let mut above = from;
            while above > down_to {
                if above >= down_to + GROUP && self.is_zero_group(table, above - GROUP, from) {
                    above -= GROUP;
                    continue;
                }
                let group = down_to.max((above - 1) / GROUP * GROUP);
                for slot in (group..above).rev() {
                    let raw = self.read(table, Index::new_truncate(slot as u64));
                    if raw & PRESENT != 0 {
                        self.put_l1e(raw);
                    }
                }
                above = group;
            }
            op.budget.charge(from - down_to);
            return down_to;
        }
        let mut above = from;
        while above > 0 {
            let slot = above - 1;
            let index = Index::new_truncate(slot as u64);
            if level == Level::L4 && index.is_reserved() {
                above = slot;
                continue;
            }
            if above >= GROUP
                && op.budget.left() >= GROUP
                && self.is_zero_group(table, above - GROUP, from)
            {
                op.budget.charge(GROUP);
                above -= GROUP;
                continue;
            }
            above = slot;
            if op.budget.is_used_up() {
                return slot + 1;
            }
            let raw = self.read(table, index);
            if raw & PRESENT != 0 {
                self.put_upper_entry(op, level, table, raw);
            }
            op.budget.charge(1);
        }
        0
    }

    /// Makes a table idle whose entries hold no references, and drops its type's general reference.
    pub(crate) fn finish_table(&self, frame: &FrameEntry, kind: Kind, live: bool) {
        // A table that CPUs walked is stamped: they may have it cached.
        frame.finish(kind, live.then(|| self.clock.now()));
        frame.put();
    }

    /// Takes apart the tables that earlier operations of the domain left (see [`DeferredDevalidations`]).
    #[inline]
    pub(crate) fn run_deferred(&self, op: &mut OpContext<'_>) -> Result<(), OpError> {
        if self.deferred.is_empty(op.dom) { Ok(()) } else { self.run_deferred_slow(op) }
    }

    #[cold]
    #[inline(never)]
    fn run_deferred_slow(&self, op: &mut OpContext<'_>) -> Result<(), OpError> {
        while let Some(mfn) = self.deferred.take(op.dom) {
            let Some(frame) = self.frame(mfn) else { continue };
            if frame.ref_word().owner() != Some(op.dom) {
                continue;
            }
            if let Some((kind, progress)) = frame.begin_undo()
                && !self.demote(op, mfn, frame, kind, progress)
            {
                return Err(OpError::Preempted);
            }
        }
        Ok(())
    }
}
