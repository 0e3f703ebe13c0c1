//! Taking a dead domain's tables apart.

use crate::budget::Budget;
use crate::frame::{DomId, Mfn};
use crate::frame_table::State;
use crate::operation::{Halt, Op};
use crate::platform::Platform;
use crate::refusal::{Operation, Stop};
use crate::validator::Validator;

/// How far [`Validator::relinquish`] is.
#[derive(Debug)]
pub struct Teardown {
    next: usize,
    found: bool,
}

impl Teardown {
    /// At the beginning.
    pub const fn new() -> Teardown {
        Teardown { next: 0, found: false }
    }
}

impl Default for Teardown {
    fn default() -> Teardown {
        Teardown::new()
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
        progress: &mut Teardown,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let mut op = Op::new(Operation::Relinquish, dom, budget);
        self.relinquish_from(&mut op, progress).map_err(|halt| op.stop(halt))
    }

    fn relinquish_from(&self, op: &mut Op<'_>, progress: &mut Teardown) -> Result<(), Halt> {
        // Once, not at each frame: what is left over from here on was left for want of budget, and the
        // list is as long as all domains make it.
        self.settle_orphans(op)?;
        loop {
            while progress.next < self.frames.len() {
                if op.budget.is_used_up() {
                    return Err(Halt::Preempted);
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
            self.settle_orphans(op)?;
            // A table taken apart may leave others half so behind the cursor, if the list of
            // orphans was full: go on until a round finds nothing.
            if !core::mem::take(&mut progress.found) {
                return Ok(());
            }
            progress.next = 0;
        }
    }

    /// Whether there was something to do.
    fn relinquish_frame(&self, op: &mut Op<'_>, number: usize) -> Result<bool, Halt> {
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
        if let Some((kind, left)) = frame.undo()
            && !self.demote(op, mfn, frame, kind, left)
        {
            return Err(Halt::Preempted);
        }
        Ok(true)
    }
}
