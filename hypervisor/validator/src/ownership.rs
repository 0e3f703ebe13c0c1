//! Whose a frame is: giving frames to domains and taking them back (`INV-OWNER`).

use crate::budget::Budget;
use crate::frame::{DomId, Mfn};
use crate::frame_table::{FrameEntry, RefWord};
use crate::operation::{Halt, Op};
use crate::platform::Platform;
use crate::refusal::{Cause, Operation, Refusal, Stop};
use crate::validator::Validator;

impl<P: Platform> Validator<'_, P> {
    /// Makes a frame usable, and free: at boot, for each frame of RAM that isn't the hypervisor's.
    /// `false` if there is no such frame or it was given before.
    pub fn give_ram(&self, mfn: Mfn) -> bool {
        self.frame(mfn).is_some_and(FrameEntry::become_ram)
    }

    /// Gives a free frame to a domain, with one reference for the allocation. Its bytes are the
    /// caller's business: clear them first.
    ///
    /// If another domain had it before, CPUs that may still remember it for that one are flushed.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotFree`].
    pub fn assign(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        self.give(Operation::Assign, mfn, dom)
    }

    /// Gives a domain a free frame that stays the hypervisor's: the domain may map it, writable
    /// too, but never use it as a table. It is taken back by [`Validator::reclaim`].
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotFree`].
    pub fn share(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        self.give(Operation::Share, mfn, dom)
    }

    fn give(&self, operation: Operation, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        refusable(operation, dom, |op| {
            let frame = self.named_frame(op, mfn)?;
            if !frame.begin_giving() {
                return Err(op.refuse(Cause::NotFree, mfn, Some(frame), None));
            }
            let shared = operation == Operation::Share;
            let last = frame.last_owner();
            // To the same domain it may go unflushed: it could read and write the frame before.
            // What it was then still counts when it takes a type.
            let keep_stamp = !shared && last.is_some_and(|(last, _)| last == dom);
            if let (false, Some((last, stamp))) = (keep_stamp, last) {
                self.flush_since(last, Some(stamp));
            }
            frame.give_to(dom, keep_stamp, shared);
            Ok(())
        })
    }

    /// Takes a frame back from its domain, which may have asked for it; it is free then. Nobody may refer to it: no entry of a
    /// table, no pin, no root. CPUs that may still remember it are flushed when another domain
    /// gets it ([`Validator::assign`]); a caller that uses it otherwise flushes itself, all CPUs
    /// of [`Platform::dirty_cpus`].
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::Busy`]; [`Cause::SharedFrame`]: the
    /// hypervisor uses it itself, so that it is not the domain's to give back.
    pub fn release(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        refusable(Operation::Release, dom, |op| {
            let frame = self.named_frame(op, mfn)?;
            let was = frame
                .take_back(dom)
                .map_err(|seen| op.refuse(not_taken(seen, dom), mfn, Some(frame), None))?;
            // The stamp is drawn after the last reference is gone: every mapping is out of the
            // tables by now, read-only ones too.
            let now = self.clock.now();
            if !was.caching().is_write_back() {
                // INV-COHERENT: a free frame is anybody's, the hypervisor's too.
                self.forget_caching(op, mfn, was);
            } else if was.is_lent() {
                // A free frame remembers one domain only: no CPU may remember the others' (`INV-LENT`).
                self.flush_behind(now, self.platform.all_cpus());
            }
            frame.become_free(dom, now);
            Ok(())
        })
    }

    /// As [`Validator::release`], of a shared frame ([`Validator::share`]) too: the hypervisor uses
    /// it no more.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::Busy`].
    pub fn reclaim(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        match self.release(mfn, dom) {
            Err(refusal) if refusal.cause == Cause::SharedFrame => {}
            result => return result,
        }
        refusable(Operation::Release, dom, |op| {
            let frame = self.named_frame(op, mfn)?;
            match frame.take_back_shared(dom) {
                Ok(()) => {
                    frame.become_free(dom, self.clock.now());
                    Ok(())
                }
                Err(seen) => {
                    let cause = if seen.is_shared() { Cause::Busy } else { not_taken(seen, dom) };
                    Err(op.refuse(cause, mfn, Some(frame), None))
                }
            }
        })
    }

    /// The first frame from `from` on that the domain owns; for taking back all of them.
    pub fn next_owned(&self, dom: DomId, from: Mfn) -> Option<Mfn> {
        let start = usize::try_from(from.get()).ok()?;
        let rest = self.frames.get(start..)?;
        let offset = rest.iter().position(|frame| frame.ref_word().owner() == Some(dom))?;
        Some(Mfn::new((start + offset) as u64))
    }
}

/// Why a frame with this word was not taken back from a domain.
fn not_taken(seen: RefWord, dom: DomId) -> Cause {
    match seen.owner() {
        owner if owner != Some(dom) => Cause::NotOwned,
        _ if seen.is_shared() => Cause::SharedFrame,
        _ => Cause::Busy,
    }
}

/// Runs an operation that has no budget and can't be preempted.
pub(crate) fn refusable<T>(
    operation: Operation,
    dom: DomId,
    run: impl FnOnce(&mut Op<'_>) -> Result<T, Halt>,
) -> Result<T, Refusal> {
    let mut budget = Budget::new(SMALL_WORK);
    let mut op = Op::new(operation, dom, &mut budget);
    run(&mut op).map_err(|halt| match op.stop(halt) {
        Stop::Refused(refusal) => refusal,
        // Another CPU is in the middle of changing the frame, or it is a big table half taken
        // apart: as good as in use.
        Stop::Preempted => {
            op.refuse(Cause::Busy, Mfn::new(0), None, None);
            match op.stop(Halt::Refused) {
                Stop::Refused(refusal) => refusal,
                Stop::Preempted => unreachable!("evidence was just given"),
            }
        }
    })
}

/// Entries that an operation without a budget of its own may visit on the side.
const SMALL_WORK: u32 = 4096;
