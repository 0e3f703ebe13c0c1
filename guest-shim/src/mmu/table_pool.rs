//! Filling the pool of clean frames, and allocating page tables from it.

use super::{Error, Mmu};
use crate::addr::Pfn;
use crate::frames::FrameSet;
use crate::platform::Platform;
use alloc::vec::Vec;

impl<P: Platform> Mmu<P> {
    /// Sets how many frames are cleaned at a time for page tables: their dead mappings are cleared
    /// with one shootdown, and a pin of tables made from them has nothing to look for. With 0 there
    /// is no pool, and each pin looks for itself. Frames in the pool become free.
    pub fn set_table_pool(&mut self, size: usize) {
        while let Some(pfn) = self.entries.table_pool.take_any() {
            self.entries.frames.free(pfn);
        }
        self.entries.table_pool.set_size(size);
    }

    /// Allocates a frame for a page table.
    pub(super) fn alloc_table_frame(&mut self) -> Result<Pfn, Error> {
        if self.entries.table_pool.size() == 0 {
            return self.alloc_frame();
        }
        if self.entries.table_pool.len() == 0 {
            self.refill_table_pool()?;
        }
        match self.entries.table_pool.alloc() {
            Some(pfn) => {
                self.entries.stats.pooled += 1;
                Ok(pfn)
            }
            None => self.alloc_frame(),
        }
    }

    /// Frees a frame that was a page table.
    pub(super) fn free_table_frame(&mut self, pfn: Pfn) {
        if !self.entries.table_pool.put(pfn) {
            self.free_frame(pfn);
        }
    }

    fn refill_table_pool(&mut self) -> Result<(), Error> {
        let size = self.entries.table_pool.size();
        let mut taken: Vec<Pfn> = Vec::with_capacity(size);
        while taken.len() < size {
            match self.entries.frames.alloc() {
                Some(pfn) => taken.push(pfn),
                None => break,
            }
        }
        // A frame that was freed although it is mapped and in use can't be cleaned.
        while let Some(index) = taken.iter().position(|&pfn| self.is_mapped(pfn)) {
            self.entries.frames.free(taken.swap_remove(index));
        }
        let frames: FrameSet = taken.iter().copied().collect();
        if let Err(error) = self.clear_dead(&frames) {
            for pfn in taken {
                self.entries.frames.free(pfn);
            }
            return Err(error);
        }
        self.entries.stats.refills += 1;
        self.entries.table_pool.fill(taken);
        Ok(())
    }
}
