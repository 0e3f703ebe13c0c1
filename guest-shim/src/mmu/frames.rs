//! Allocating, freeing, reading and writing frames.

use super::{Error, MemoryType, Mmu, Reuse};
use crate::addr::{Mfn, PAGE_WORDS, Pfn, Vaddr, is_lower_half, word_of};
use crate::frames::FrameSet;
use crate::hypercall::Errno;
use crate::platform::Platform;
use crate::vmap::Policy;
use alloc::vec::Vec;
use pinfold_abi::pinfold::Mapping;

impl<P: Platform> Mmu<P> {
    /// Allocates a frame. Its contents are undefined.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`], after clearing lazy mappings did not free one either.
    pub fn alloc_frame(&mut self) -> Result<Pfn, Error> {
        if self.entries.frames.available() == 0 && self.entries.frames.deferred() > 0 {
            self.purge_vmap()?;
        }
        let free = self.entries.frames.alloc();
        free.or_else(|| self.entries.table_pool.take_any()).ok_or(Error::NoFrame)
    }

    /// Frees a frame. Lazy mappings of it may still exist: with [`Policy::HoldRefs`] it is reused
    /// only after they are cleared, otherwise at any time. A frame that a device
    /// [uses](Mmu::holders) is reused only after the transfer.
    ///
    /// # Panics
    ///
    /// If the frame was not allocated here, or is not write-back: its next user, perhaps a page
    /// table, expects write-back.
    pub fn free_frame(&mut self, pfn: Pfn) {
        assert!(self.entries.frames.covers(pfn), "frame {pfn} is not for data");
        let memory = self.entries.memory_types.get(pfn);
        assert!(memory == MemoryType::WriteBack, "frame {pfn} is freed as {}", memory.name());
        if self.references.defer_free(pfn) {
            return;
        }
        if self.vmap.policy() == Policy::HoldRefs && self.vmap.has_dead(pfn) {
            self.entries.frames.defer_free(pfn);
        } else {
            self.entries.frames.free(pfn);
        }
    }

    /// Sets which free frame is allocated next.
    pub fn set_reuse(&mut self, reuse: Reuse) {
        self.entries.frames.reuse = reuse;
    }

    /// Frames that can be allocated without clearing anything.
    pub fn free_frames(&self) -> usize {
        self.entries.frames.available() + self.entries.table_pool.len()
    }

    /// Takes a reference to each frame for a device.
    ///
    /// # Panics
    ///
    /// If a frame was not allocated here.
    pub(crate) fn pin_frames(&mut self, frames: &[Pfn], holder: &'static str) {
        for &pfn in frames {
            assert!(self.entries.frames.covers(pfn), "frame {pfn} is not for data");
            self.references.pin(pfn, holder);
        }
    }

    /// Drops a reference to each frame. Frames that were freed meanwhile become free.
    pub(crate) fn unpin_frames(&mut self, frames: &[Pfn], holder: &'static str) {
        for &pfn in frames {
            if self.references.unpin(pfn, holder) {
                self.free_frame(pfn);
            }
        }
    }

    /// The devices that use a frame, once for each reference.
    pub fn holders(&self, pfn: Pfn) -> &[&'static str] {
        self.references.holders(pfn)
    }

    /// Frames that were freed and that a device still uses.
    pub fn frames_in_io(&self) -> usize {
        self.references.deferred()
    }

    /// Refuses frames that a device uses.
    pub(super) fn refuse_in_io(&self, frames: &FrameSet) -> Result<(), Error> {
        let first = self.references.first_of(frames);
        first.map_or(Ok(()), |(frame, holder)| Err(Error::InIo { frame, holder }))
    }

    /// Reads a word of a frame through the direct map.
    ///
    /// # Panics
    ///
    /// If `index` is not below 512.
    pub fn read(&self, pfn: Pfn, index: usize) -> u64 {
        self.entries.platform.load(word_of(self.direct_map_va(pfn), index))
    }

    /// Writes a word of a data frame through the direct map.
    ///
    /// # Panics
    ///
    /// If `index` is not below 512, or the frame was not allocated here.
    pub fn write(&mut self, pfn: Pfn, index: usize, word: u64) {
        assert!(self.entries.frames.covers(pfn), "frame {pfn} is not for data");
        let page = self.direct_map_va(pfn);
        self.entries.platform.store(word_of(page, index), word);
    }

    /// Clears a frame.
    pub(super) fn clear_frame(&mut self, pfn: Pfn) {
        for index in 0..PAGE_WORDS {
            self.write(pfn, index, 0);
        }
    }

    /// Reads a word through any mapping.
    pub fn load(&self, va: Vaddr) -> u64 {
        self.entries.platform.load(va)
    }

    /// Writes a word through a mapping that [`vmap`](Mmu::vmap) or [`kmap`](Mmu::kmap) made, or
    /// through one in the lower half of the loaded address space.
    ///
    /// # Panics
    ///
    /// If the address is in none of these ranges.
    pub fn store(&mut self, va: Vaddr, word: u64) {
        let allowed = is_lower_half(va) || self.vmap.covers(va) || self.kmap.covers(va);
        assert!(allowed, "{va} is not for data");
        self.entries.platform.store(va, word);
    }

    /// The machine frame of a pfn.
    pub fn mfn(&self, pfn: Pfn) -> Mfn {
        self.entries.platform.mfn(pfn)
    }

    /// Where the direct map maps a frame.
    pub fn direct_map_va(&self, pfn: Pfn) -> Vaddr {
        self.entries.platform.direct_map_va(pfn)
    }

    /// Finds every mapping of these frames that the hypervisor knows.
    ///
    /// # Errors
    ///
    /// -ENOSYS where there is no such call.
    pub fn find_aliases(&mut self, frames: &[Pfn]) -> Result<Vec<Mapping>, Errno> {
        let frames: Vec<Mfn> = frames.iter().map(|&pfn| self.mfn(pfn)).collect();
        self.entries.platform.find_aliases(&frames)
    }
}
