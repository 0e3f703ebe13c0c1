//! Owners of frames: allocating free frames and taking them back (`INV-OWNER`, `INV-CLEAN`).
//!
//! ```text
//!          clean_free_frames              assign_frames, share_frames, assign_to_hypervisor
//!        free ---------------> CleanFrames --------------------> a domain's, or the hypervisor's
//!         ^    flush, clear                                                |
//!         +-------- release, reclaim, free_hypervisor_frames --------------+
//! ```
//!
//! A frame is flushed when it is allocated, not when it is freed: most CPUs have flushed anyway by then,
//! and the frame's stamp says which. The order matters. Until the flush is done, a CPU may write to the
//! frame through a stale translation, whatever the tables say; only a frame that is cleared after the
//! flush stays clear.

use crate::addr::Mfn;
use crate::context::{OpContext, OpError, run_unbudgeted};
use crate::frame_table::{FrameEntry, LastUser, Purpose, RefWord};
use crate::ids::{CpuSet, DomId};
use crate::memtype::CachePolicy;
use crate::platform::Platform;
use crate::refusal::{Cause, Operation, Refusal};
use crate::validator::Validator;

/// Consecutive frames without an owner, which are all zeros, and of which no CPU has a translation
/// cached. Only [`Validator::clean_free_frames`] makes them, and they are passed by value: so no other
/// frame can get an owner.
#[derive(Debug)]
#[must_use = "the frames are lost unless they get an owner"]
pub struct CleanFrames {
    first: Mfn,
    count: u64,
}

impl CleanFrames {
    /// The first frame.
    pub const fn first(&self) -> Mfn {
        self.first
    }

    /// Number of frames.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// Consecutive frames of the hypervisor's own. A proof of it, which can't be copied, and which
/// [`Validator::free_hypervisor_frames`] takes back.
#[derive(Debug)]
#[must_use = "the frames stay the hypervisor's until they are freed"]
pub struct HypervisorFrames {
    first: Mfn,
    count: u64,
}

impl HypervisorFrames {
    /// The first frame.
    pub const fn first(&self) -> Mfn {
        self.first
    }

    /// Number of frames.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl<'a, P: Platform> Validator<'a, P> {
    /// Adds a free frame of RAM: at boot, for each one that isn't the hypervisor's. `false` if there is no
    /// such frame, or it was added before.
    pub fn add_ram_frame(&self, mfn: Mfn) -> bool {
        self.frame(mfn).is_some_and(FrameEntry::make_ram)
    }

    /// Adds a frame of RAM that stays the hypervisor's: at boot, for RAM that is in use already. `false`
    /// if there is no such frame, or it was added before.
    pub fn reserve_boot_frame(&self, mfn: Mfn) -> bool {
        self.frame(mfn).is_some_and(|frame| frame.make_boot_memory(Purpose::Boot))
    }

    /// Reserves `count` free frames from `first` on, flushes every CPU that may have a translation of one
    /// cached, and clears them, in this order (`INV-CLEAN`).
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
                    // Those before it are flushed but not cleared; the next allocation clears them.
                    for frame in self.consecutive_frames(first, offset) {
                        frame.cancel_alloc();
                    }
                    taken?;
                }
            }
            // All flushes are done: no CPU can write to the frames any more.
            for number in first.get()..first.get() + count {
                self.platform.clear_frame(Mfn::new(number));
            }
            Ok(CleanFrames { first, count })
        })
    }

    /// Reserves one of the frames from `first` on, and flushes the CPUs that may have it cached.
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

    /// The CPUs that may have a free frame cached.
    fn cpus_that_may_remember(&self, last: LastUser) -> CpuSet {
        match last {
            LastUser::Anyone => self.platform.all_cpus(),
            LastUser::Domain(dom) => self.platform.dirty_cpus(dom),
        }
    }

    fn consecutive_frames(
        &self,
        first: Mfn,
        count: u64,
    ) -> impl Iterator<Item = &'a FrameEntry> + '_ {
        (first.get()..first.get() + count).filter_map(|number| self.frame(Mfn::new(number)))
    }

    /// Gives clean frames to a domain, each with the reference of its allocation. Returns the first.
    pub fn assign_frames(&self, frames: CleanFrames, dom: DomId) -> Mfn {
        let CleanFrames { first, count } = frames;
        if self.platform.cache_policy(dom) == CachePolicy::Report {
            // It may read past the caches, where the last owner's data would still be.
            for number in first.get()..first.get() + count {
                self.platform.flush_cache(Mfn::new(number));
            }
        }
        self.consecutive_frames(first, count).for_each(|frame| frame.assign_to(dom));
        first
    }

    /// Shares clean frames with a domain: they stay the hypervisor's, and the domain may map them,
    /// also writable, but never use them as tables. [`Validator::reclaim`] takes them back. Returns the
    /// first.
    pub fn share_frames(&self, frames: CleanFrames, dom: DomId) -> Mfn {
        let CleanFrames { first, count } = frames;
        self.consecutive_frames(first, count).for_each(|frame| frame.share_with(dom));
        first
    }

    /// Makes clean frames the hypervisor's own: no guest can name them.
    pub fn assign_to_hypervisor(&self, frames: CleanFrames, purpose: Purpose) -> HypervisorFrames {
        let CleanFrames { first, count } = frames;
        self.consecutive_frames(first, count).for_each(|frame| frame.assign_to_hypervisor(purpose));
        HypervisorFrames { first, count }
    }

    /// Frees frames of the hypervisor's own. CPUs may have walked through them as tables, so the next
    /// allocation flushes all of them.
    ///
    /// # Panics
    /// If they aren't the hypervisor's: a bug, which the proof that is passed makes impossible.
    pub fn free_hypervisor_frames(&self, frames: HypervisorFrames) {
        let HypervisorFrames { first, count } = frames;
        for frame in self.consecutive_frames(first, count) {
            // If it was not owned, it would be allocated twice from now on.
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

    /// Moves a frame from one domain to another, with its contents. As for [`Validator::release`], nothing
    /// may refer to it. No CPU has it cached when the other domain gets it.
    ///
    /// # Errors
    /// As [`Validator::release`]; the frame stays the first domain's.
    pub fn transfer(&self, mfn: Mfn, from: DomId, to: DomId) -> Result<(), Refusal> {
        run_unbudgeted(Operation::Release, from, |op| {
            let (frame, last, now) = self.begin_release(op, mfn)?;
            // Released and allocated in one, so the flush is needed now.
            self.flush_if_behind(now, self.cpus_that_may_remember(last));
            if self.platform.cache_policy(to) == CachePolicy::Report {
                self.platform.flush_cache(mfn);
            }
            frame.assign_to(to);
            Ok(())
        })
    }

    /// Takes a frame back from its domain: it is free afterwards. Nothing may refer to it: no entry of a
    /// table, no pin, no root. CPUs that may have it cached are flushed when it gets an owner ([`Validator::clean_free_frames`]).
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::Busy`]; [`Cause::SharedFrame`]: the
    /// hypervisor uses it itself, so the domain can't give it back.
    pub fn release(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        run_unbudgeted(Operation::Release, dom, |op| {
            let (frame, last, now) = self.begin_release(op, mfn)?;
            frame.make_free(last, now);
            Ok(())
        })
    }

    /// Takes a frame from the operation's domain; then only the caller may touch it. Returns which CPUs may
    /// have it cached, and a time after which none can have cached it.
    fn begin_release(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
    ) -> Result<(&'a FrameEntry, LastUser, u64), OpError> {
        let frame = self.require_frame(op, mfn)?;
        let was = frame
            .take_back(op.dom)
            .map_err(|seen| op.refuse(take_back_error(seen, op.dom), mfn, Some(frame), None))?;
        self.platform.invalidate_m2p(mfn);
        // The stamp is read after the last reference is gone: every mapping has left the tables by now,
        // read-only ones too.
        let now = self.clock.now();
        if !was.memtype().is_write_back() {
            // INV-COHERENT: the hypervisor may be the next owner.
            self.flush_old_memtype(op, mfn, was);
        }
        // A free frame keeps one last owner; the domains that it was granted to are not known.
        let last =
            if was.is_foreign_mapped() { LastUser::Anyone } else { LastUser::Domain(op.dom) };
        Ok((frame, last, now))
    }

    /// As [`Validator::release`], and also for a shared frame ([`Validator::share`]): the hypervisor doesn't
    /// use it any more.
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
                    let cause =
                        if seen.is_shared() { Cause::Busy } else { take_back_error(seen, dom) };
                    Err(op.refuse(cause, mfn, Some(frame), None))
                }
            }
        })
    }

    /// The first frame from `from` on that the domain owns.
    pub fn next_owned(&self, dom: DomId, from: Mfn) -> Option<Mfn> {
        let start = usize::try_from(from.get()).ok()?;
        let rest = self.frames.get(start..)?;
        let offset = rest.iter().position(|frame| frame.ref_word().owner() == Some(dom))?;
        Some(Mfn::new((start + offset) as u64))
    }
}

/// Why a frame with this reference word could not be taken back from a domain.
fn take_back_error(seen: RefWord, dom: DomId) -> Cause {
    match seen.owner() {
        owner if owner != Some(dom) => Cause::NotOwned,
        _ if seen.is_shared() => Cause::SharedFrame,
        _ => Cause::Busy,
    }
}
