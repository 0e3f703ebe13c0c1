//! Whose a frame is: giving frames out and taking them back (`INV-OWNER`, `INV-CLEAN`).
//!
//! ```text
//!              begin_alloc                 assign, share, keep
//!        free ---------------> CleanFrames --------------------> a domain's, or the hypervisor's
//!         ^    flush, clear                                                |
//!         +-------- release, reclaim, free_hypervisor_frames --------------+
//! ```
//!
//! A frame is flushed when it is taken, not when it is freed: most CPUs have flushed anyway by
//! then, and the frame's stamp tells which have. The order is what matters. Until the flush is
//! done, a CPU may write to the frame through a translation that it remembers, whatever the tables
//! say; only what is cleared after the flush is sure to stay clear.

use crate::addr::Mfn;
use crate::context::{OpContext, OpError, run_unbudgeted};
use crate::frame_table::{FrameEntry, LastUser, Purpose, RefWord};
use crate::ids::{CpuSet, DomId};
use crate::memtype::CachePolicy;
use crate::platform::Platform;
use crate::refusal::{Cause, Operation, Refusal};
use crate::validator::Validator;

/// Frames in a row that nobody owns yet: no CPU remembers a translation of them, and they are all
/// zeros. Made by [`Validator::clean_free_frames`] alone, and given on by value, so that no frame can be
/// handed out that isn't clean.
#[derive(Debug)]
#[must_use = "the frames are lost unless they are given to somebody"]
pub struct CleanFrames {
    first: Mfn,
    count: u64,
}

impl CleanFrames {
    /// The first of them.
    pub const fn first(&self) -> Mfn {
        self.first
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// Frames in a row that are the hypervisor's alone. The proof that they are: it can't be copied, and
/// [`Validator::free_hypervisor_frames`] wants it back.
#[derive(Debug)]
#[must_use = "the frames stay the hypervisor's until they are freed"]
pub struct HypervisorFrames {
    first: Mfn,
    count: u64,
}

impl HypervisorFrames {
    /// The first of them.
    pub const fn first(&self) -> Mfn {
        self.first
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl<'a, P: Platform> Validator<'a, P> {
    /// Makes a frame usable, and free: at boot, for each frame of RAM that isn't the hypervisor's.
    /// `false` if there is no such frame or it was given before.
    pub fn add_ram_frame(&self, mfn: Mfn) -> bool {
        self.frame(mfn).is_some_and(FrameEntry::make_ram)
    }

    /// Makes a frame the hypervisor's for ever: at boot, for RAM that it uses already. `false` if
    /// there is no such frame or it was given before.
    pub fn reserve_boot_frame(&self, mfn: Mfn) -> bool {
        self.frame(mfn).is_some_and(|frame| frame.make_boot_memory(Purpose::Boot))
    }

    /// Takes `count` free frames from `first` on, flushes every CPU that may remember a translation
    /// of one, and clears them, in this order (`INV-CLEAN`).
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotFree`], with the frame; then all are as they were.
    pub fn clean_free_frames(&self, first: Mfn, count: u64) -> Result<CleanFrames, Refusal> {
        self.clean_for(Operation::Assign, DomId::HYPERVISOR, first, count)
    }

    fn clean_for(
        &self,
        operation: Operation,
        dom: DomId,
        first: Mfn,
        count: u64,
    ) -> Result<CleanFrames, Refusal> {
        run_unbudgeted(operation, dom, |op| {
            for offset in 0..count {
                let taken = self.begin_alloc(op, first, offset);
                if taken.is_err() {
                    // Those before it are flushed, but hold whatever they held: no matter, since
                    // whoever takes them next clears them.
                    for frame in self.frames_in_row(first, offset) {
                        frame.cancel_alloc();
                    }
                    taken?;
                }
            }
            // All flushes were before; from here on nobody can write to any of them.
            for number in first.get()..first.get() + count {
                self.platform.clear_frame(Mfn::new(number));
            }
            Ok(CleanFrames { first, count })
        })
    }

    /// Reserves one of the frames from `first` on for giving it out, and flushes the CPUs that may
    /// remember it.
    fn begin_alloc(&self, op: &mut OpContext<'_>, first: Mfn, offset: u64) -> Result<(), OpError> {
        let mfn = Mfn::new(first.get().saturating_add(offset));
        let frame = self.require_frame(op, mfn)?;
        if !frame.begin_alloc() {
            return Err(op.refuse(Cause::NotFree, mfn, Some(frame), None));
        }
        if let Some((last, stamp)) = frame.last_user() {
            self.flush_if_behind(stamp, self.cpus_that_may_remember(last));
        }
        Ok(())
    }

    /// The CPUs that may remember a frame.
    fn cpus_that_may_remember(&self, last: LastUser) -> CpuSet {
        match last {
            LastUser::Anyone => self.platform.all_cpus(),
            LastUser::Domain(dom) => self.platform.dirty_cpus(dom),
        }
    }

    fn frames_in_row(&self, first: Mfn, count: u64) -> impl Iterator<Item = &'a FrameEntry> + '_ {
        (first.get()..first.get() + count).filter_map(|number| self.frame(Mfn::new(number)))
    }

    /// Gives clean frames to a domain, each with one reference for the allocation. Returns the first.
    pub fn assign_frames(&self, frames: CleanFrames, dom: DomId) -> Mfn {
        let CleanFrames { first, count } = frames;
        if self.platform.cache_policy(dom) == CachePolicy::Report {
            // It may see past the caches what it doesn't see through them: the last owner's words.
            for number in first.get()..first.get() + count {
                self.platform.flush_cache(Mfn::new(number));
            }
        }
        self.frames_in_row(first, count).for_each(|frame| frame.assign_to(dom));
        first
    }

    /// Gives a domain clean frames that stay the hypervisor's: the domain may map them, writable
    /// too, but never use them as tables. They are taken back by [`Validator::reclaim`]. Returns the
    /// first.
    pub fn share_frames(&self, frames: CleanFrames, dom: DomId) -> Mfn {
        let CleanFrames { first, count } = frames;
        self.frames_in_row(first, count).for_each(|frame| frame.share_with(dom));
        first
    }

    /// Makes clean frames the hypervisor's own: no guest can name them.
    pub fn assign_to_hypervisor(&self, frames: CleanFrames, purpose: Purpose) -> HypervisorFrames {
        let CleanFrames { first, count } = frames;
        self.frames_in_row(first, count).for_each(|frame| frame.assign_to_hypervisor(purpose));
        HypervisorFrames { first, count }
    }

    /// Frees frames of the hypervisor's own. CPUs may have walked through them as tables: whoever
    /// takes them next flushes.
    ///
    /// # Panics
    /// If they aren't the hypervisor's: a bug, which the proof that is passed makes impossible.
    pub fn free_hypervisor_frames(&self, frames: HypervisorFrames) {
        let HypervisorFrames { first, count } = frames;
        for frame in self.frames_in_row(first, count) {
            // What is freed must have been owned, or two would have it from now on.
            let taken = frame.take_back_from_hypervisor();
            assert!(taken, "INV-OWNER: a frame that is freed was not the hypervisor's");
            frame.make_free(LastUser::Anyone, self.clock.now());
        }
    }

    /// Takes one free frame and gives it to a domain: [`Validator::clean_free_frames`] and
    /// [`Validator::assign_frames`] in one.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotFree`].
    pub fn assign(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        let frames = self.clean_for(Operation::Assign, dom, mfn, 1)?;
        self.assign_frames(frames, dom);
        Ok(())
    }

    /// Takes one free frame and shares it with a domain: [`Validator::clean_free_frames`] and
    /// [`Validator::share_frames`] in one.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotFree`].
    pub fn share(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        let frames = self.clean_for(Operation::Share, dom, mfn, 1)?;
        self.share_frames(frames, dom);
        Ok(())
    }

    /// Passes a frame on from one domain to another, with what it holds. Nobody may refer to it, as
    /// for [`Validator::release`], and no CPU remembers it when the other domain gets it.
    ///
    /// # Errors
    /// As [`Validator::release`]; the frame stays the first domain's.
    pub fn transfer(&self, mfn: Mfn, from: DomId, to: DomId) -> Result<(), Refusal> {
        run_unbudgeted(Operation::Release, from, |op| {
            let (frame, last, now) = self.begin_release(op, mfn)?;
            // Released now, and given out now: the flush is due at once.
            self.flush_if_behind(now, self.cpus_that_may_remember(last));
            if self.platform.cache_policy(to) == CachePolicy::Report {
                self.platform.flush_cache(mfn);
            }
            frame.assign_to(to);
            Ok(())
        })
    }

    /// Takes a frame back from its domain, which may have asked for it; it is free then. Nobody may
    /// refer to it: no entry of a table, no pin, no root. CPUs that may still remember it are
    /// flushed when somebody gets it ([`Validator::clean_free_frames`]).
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::Busy`]; [`Cause::SharedFrame`]: the
    /// hypervisor uses it itself, so that it is not the domain's to give back.
    pub fn release(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        run_unbudgeted(Operation::Release, dom, |op| {
            let (frame, last, now) = self.begin_release(op, mfn)?;
            frame.make_free(last, now);
            Ok(())
        })
    }

    /// Takes a frame from the operation's domain; the caller alone may touch it then. Returns who may
    /// remember it, and the moment after which nobody can have come to know it.
    fn begin_release(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
    ) -> Result<(&'a FrameEntry, LastUser, u64), OpError> {
        let frame = self.require_frame(op, mfn)?;
        let was = frame
            .take_back(op.dom)
            .map_err(|seen| op.refuse(not_taken(seen, op.dom), mfn, Some(frame), None))?;
        self.platform.invalidate_m2p(mfn);
        // The stamp is drawn after the last reference is gone: every mapping is out of the tables
        // by now, read-only ones too.
        let now = self.clock.now();
        if !was.memtype().is_write_back() {
            // INV-COHERENT: a free frame is anybody's, the hypervisor's too.
            self.flush_old_memtype(op, mfn, was);
        }
        // A free frame has one last owner: of those that it was lent to nothing else is known.
        let last =
            if was.is_foreign_mapped() { LastUser::Anyone } else { LastUser::Domain(op.dom) };
        Ok((frame, last, now))
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
        run_unbudgeted(Operation::Release, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            match frame.take_back_shared(dom) {
                Ok(()) => {
                    self.platform.invalidate_m2p(mfn);
                    frame.make_free(LastUser::Domain(dom), self.clock.now());
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
