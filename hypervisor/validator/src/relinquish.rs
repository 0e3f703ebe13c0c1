//! Taking a dead domain's tables apart.

use crate::addr::Mfn;
use crate::budget::Budget;
use crate::context::{OpContext, OpError};
use crate::frame_table::State;
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Error, Operation};
use crate::validator::Validator;

/// Progress of [`Validator::relinquish`].
#[derive(Debug)]
pub struct RelinquishProgress {
    next: usize,
    found: bool,
}

impl RelinquishProgress {
    /// At the beginning.
    pub const fn new() -> RelinquishProgress {
        RelinquishProgress { next: 0, found: false }
    }
}

impl Default for RelinquishProgress {
    fn default() -> RelinquishProgress {
        RelinquishProgress::new()
    }
}

/// Frames that cost as much to skip as one entry costs to visit.
const FRAMES_PER_CHARGE: usize = 2;

impl<P: Platform> Validator<'_, P> {
    /// Unpins all tables of a domain, and takes its partial tables apart. The domain must not run any
    /// more, and the hypervisor must have dropped its own references (roots, descriptor pages, writable
    /// frames). Afterwards every frame of the domain can be [released](Validator::release).
    ///
    /// Tables can't keep each other alive in a circle, since an entry that points to its own table holds
    /// no reference.
    ///
    /// # Errors
    /// Preempted only: call again with the same `progress`.
    pub fn relinquish(
        &self,
        dom: DomId,
        progress: &mut RelinquishProgress,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::Relinquish, dom, budget);
        self.relinquish_from(&mut op, progress).map_err(|halt| op.to_error(halt))
    }

    fn relinquish_from(
        &self,
        op: &mut OpContext<'_>,
        progress: &mut RelinquishProgress,
    ) -> Result<(), OpError> {
        // Once, not for each frame: what is deferred from here on was deferred because the budget was
        // used up, and the list is shared by all domains.
        self.run_deferred(op)?;
        loop {
            while progress.next < self.frames.len() {
                if op.budget.is_used_up() {
                    return Err(OpError::Preempted);
                }
                let end = self.frames.len().min(progress.next + FRAMES_PER_CHARGE);
                op.budget.charge(1);
                for number in progress.next..end {
                    let found = self.relinquish_frame(op, number);
                    // Also if it was preempted: what it left may be behind the cursor.
                    progress.found |= found != Ok(false);
                    found?;
                    progress.next = number + 1;
                }
            }
            self.run_deferred(op)?;
            // A table that was taken apart may leave partial tables behind the cursor, if the list of
            // deferred work was full: repeat until a pass finds nothing.
            if !core::mem::take(&mut progress.found) {
                return Ok(());
            }
            progress.next = 0;
        }
    }

    /// Whether there was something to do.
    fn relinquish_frame(&self, op: &mut OpContext<'_>, number: usize) -> Result<bool, OpError> {
        let frame = &self.frames[number];
        if !frame.is_owned(op.owned) {
            return Ok(false);
        }
        let types = frame.type_word();
        let mfn = Mfn::new(number as u64);
        if types.is_pinned() {
            self.unpin_any(op, mfn)?;
            return Ok(true);
        }
        if types.state() != State::Partial {
            return Ok(false);
        }
        if let Some((kind, left)) = frame.begin_undo()
            && !self.demote(op, mfn, frame, kind, left)
        {
            return Err(OpError::Preempted);
        }
        Ok(true)
    }
}
