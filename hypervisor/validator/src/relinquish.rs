//! Taking a dead domain's tables apart.

use crate::addr::Mfn;
use crate::budget::Budget;
use crate::context::{OpContext, OpError};
use crate::frame_table::State;
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Error, Operation};
use crate::validator::Validator;

/// How far [`Validator::relinquish`] is.
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

/// Frames passed over that cost as much as visiting one entry.
const FRAMES_PER_CHARGE: usize = 2;

impl<P: Platform> Validator<'_, P> {
    /// Unpins all that a domain pinned, and takes apart all that is half made or half unmade.
    /// The domain must run no more, and what the hypervisor holds (roots, descriptor pages,
    /// writable frames) must be dropped. After it every frame of the domain can be
    /// [released](Validator::release).
    ///
    /// Frames that only keep each other alive don't exist: the one reference that could be part
    /// of a circle, an entry that points to its own table, is none.
    ///
    /// # Errors
    /// Preempted only: ask again with the same `progress`.
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
        // Once, not at each frame: what is left over from here on was left for want of budget, and the
        // list is as long as all domains make it.
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
                    // Also if it stopped halfway: what it left may be behind the cursor by then.
                    progress.found |= found != Ok(false);
                    found?;
                    progress.next = number + 1;
                }
            }
            self.run_deferred(op)?;
            // A table taken apart may leave others half so behind the cursor, if the list of
            // orphans was full: go on until a round finds nothing.
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
