//! Allocating frames, for domains and for the hypervisor itself, and freeing them.
//!
//! The bitmap says which frames are free. The owner and type of a frame are in the validator's frame
//! table. A frame is removed from the bitmap first, and made clean afterwards
//! ([`Validator::clean_free_frames`]), so that the lock is never held while other CPUs are asked to flush
//! their TLBs.

use crate::bitmap::FrameBitmap;
use pinfold_validator::{
    CleanFrames, DomId, HypervisorFrames, Mfn, Platform, Purpose, Refusal, Validator,
};
use spin::RelaxStrategy;
use spin::mutex::Mutex;

/// Allocator of the machine's frames. `R` is how a CPU waits for the lock.
#[derive(Debug)]
pub struct FrameAllocator<'v, P, R> {
    validator: &'v Validator<'v, P>,
    free: Mutex<FrameBitmap, R>,
}

impl<'v, P: Platform, R: RelaxStrategy> FrameAllocator<'v, P, R> {
    /// An allocator with no free frame. `words` has a bit for each frame, all zero.
    pub fn new(validator: &'v Validator<'v, P>, words: &'static mut [u64]) -> Self {
        FrameAllocator { validator, free: Mutex::new(FrameBitmap::new(words)) }
    }

    /// Adds a frame of RAM at boot. `false` if there is no such frame or it was added before.
    pub fn add_free(&self, mfn: Mfn) -> bool {
        let added = self.validator.add_ram_frame(mfn);
        if added {
            self.free.lock().add(mfn);
        }
        added
    }

    /// The validator that knows what each frame is.
    pub fn validator(&self) -> &'v Validator<'v, P> {
        self.validator
    }

    /// Number of free frames.
    pub fn free_count(&self) -> u64 {
        self.free.lock().free()
    }

    /// Reserves `1 << order` consecutive free frames, which a domain will get later.
    pub fn reserve(&self, order: u32) -> Option<ReservedFrames<'_, 'v, P, R>> {
        let first = self.free.lock().take_aligned(order)?;
        Some(ReservedFrames { allocator: self, first, order })
    }

    /// Allocates `1 << order` consecutive zeroed frames for a domain. Returns the first.
    pub fn alloc_domain_frames(&self, dom: DomId, order: u32) -> Option<Mfn> {
        Some(self.reserve(order)?.assign(dom))
    }

    /// Allocates a zeroed frame that stays the hypervisor's, and that the domain may map writable,
    /// but never use as a table.
    pub fn alloc_shared_frame(&self, dom: DomId) -> Option<Mfn> {
        let frames = self.alloc_clean(0)?;
        Some(self.validator.share_frames(frames, dom))
    }

    /// Allocates `1 << order` consecutive zeroed frames for the hypervisor.
    pub fn alloc_hypervisor_frames(
        &self,
        order: u32,
        purpose: Purpose,
    ) -> Option<HypervisorFrames> {
        let frames = self.alloc_clean(order)?;
        Some(self.validator.assign_to_hypervisor(frames, purpose))
    }

    /// Allocates a given frame, zeroed, for the hypervisor. `None` if it is not free.
    pub fn alloc_this_frame(&self, mfn: Mfn, purpose: Purpose) -> Option<HypervisorFrames> {
        if !self.free.lock().take_this(mfn) {
            return None;
        }
        Some(self.validator.assign_to_hypervisor(self.make_clean(mfn, 0), purpose))
    }

    /// Frees frames of the hypervisor's own.
    pub fn free_hypervisor_frames(&self, frames: HypervisorFrames) {
        let (first, count) = (frames.first().get(), frames.count());
        self.validator.free_hypervisor_frames(frames);
        let mut free = self.free.lock();
        (first..first + count).for_each(|number| free.add(Mfn::new(number)));
    }

    /// Takes a frame back from its domain, at the domain's request.
    ///
    /// # Errors
    /// As [`Validator::release`]: it stays the domain's.
    pub fn release(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        self.validator.release(mfn, dom)?;
        self.free.lock().add(mfn);
        Ok(())
    }

    /// Takes a frame back from a domain that has ended; also one that the hypervisor shared with it.
    ///
    /// # Errors
    /// As [`Validator::reclaim`]: it stays the domain's.
    pub fn reclaim(&self, mfn: Mfn, dom: DomId) -> Result<(), Refusal> {
        self.validator.reclaim(mfn, dom)?;
        self.free.lock().add(mfn);
        Ok(())
    }

    fn alloc_clean(&self, order: u32) -> Option<CleanFrames> {
        let first = self.free.lock().take_aligned(order)?;
        Some(self.make_clean(first, order))
    }

    /// Makes frames clean that were just removed from the bitmap.
    fn make_clean(&self, first: Mfn, order: u32) -> CleanFrames {
        self.validator
            .clean_free_frames(first, 1 << order)
            .expect("a frame of the bitmap is free in the frame table")
    }
}

/// Frames that were removed from the bitmap and have no owner yet. If it is dropped, they are free again.
#[derive(Debug)]
pub struct ReservedFrames<'a, 'v, P: Platform, R: RelaxStrategy> {
    allocator: &'a FrameAllocator<'v, P, R>,
    first: Mfn,
    order: u32,
}

impl<P: Platform, R: RelaxStrategy> ReservedFrames<'_, '_, P, R> {
    /// Makes them clean and gives them to a domain. Returns the first.
    pub fn assign(self, dom: DomId) -> Mfn {
        let frames = self.allocator.make_clean(self.first, self.order);
        let validator = self.allocator.validator;
        // They have an owner, so they must not be put back.
        core::mem::forget(self);
        validator.assign_frames(frames, dom)
    }
}

impl<P: Platform, R: RelaxStrategy> Drop for ReservedFrames<'_, '_, P, R> {
    fn drop(&mut self) {
        let mut free = self.allocator.free.lock();
        let first = self.first.get();
        (first..first + (1 << self.order)).for_each(|number| free.add(Mfn::new(number)));
    }
}
