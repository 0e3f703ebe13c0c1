//! Frames known to be free of aliases, kept for page tables.
//!
//! The pool is filled some frames at a time, whose dead mappings are cleared in one shootdown; a pin
//! of tables made from it has nothing to look for. What a table leaves behind when it is taken
//! apart is as clean as it was, and goes back.
//!
//! **Clean** is a mark on a frame, and says: since it was cleaned nothing mapped it writable but its
//! home. It is set where the pool is filled only, and taken away where a writable entry is made, of
//! which there is one place (`leaf_entry`): a caller may map a frame of the pool, by mistake or on
//! purpose, but then it is a frame like any other, and a pin looks at it.

use crate::addr::Pfn;
use crate::mmu::{Error, Mmu};
use crate::per_frame::{FrameSet, Marks};
use crate::platform::Platform;
use alloc::vec::Vec;

/// The pool.
#[derive(Debug, Default)]
pub(crate) struct TablePool {
    /// Frames cleaned at a time; 0: there is no pool.
    size: usize,
    free: Vec<Pfn>,
    /// Frames in the pool, and tables made from it.
    clean: Marks,
}

impl TablePool {
    /// Frames in it.
    pub(crate) fn len(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn is_clean(&self, pfn: Pfn) -> bool {
        self.clean.has(pfn)
    }

    /// Something maps the frame, or is about to.
    pub(crate) fn mark_mapped(&mut self, pfn: Pfn) {
        self.clean.clear(pfn);
    }

    /// Takes a table back, if it is clean and there is room.
    fn take_back(&mut self, pfn: Pfn) -> bool {
        // As many again as one filling: so that a guest that frees some and makes some does not
        // go from one filling to the next.
        let fits = self.clean.has(pfn) && self.free.len() < 2 * self.size;
        if fits {
            self.free.push(pfn);
        } else {
            self.clean.clear(pfn);
        }
        fits
    }

    /// Gives one away for any use.
    pub(crate) fn give_up(&mut self) -> Option<Pfn> {
        let pfn = self.free.pop()?;
        self.clean.clear(pfn);
        Some(pfn)
    }
}

impl<P: Platform> Mmu<P> {
    /// Sets how many frames are cleaned at a time for page tables; 0: none, each pin looks for
    /// itself. Frames in the pool are free again.
    pub fn set_table_pool(&mut self, size: usize) {
        while let Some(pfn) = self.tables.give_up() {
            self.frames.free(pfn);
        }
        self.tables.size = size;
    }

    /// A frame for a page table.
    pub(crate) fn alloc_table_frame(&mut self) -> Result<Pfn, Error> {
        if self.tables.size == 0 {
            return self.alloc_frame();
        }
        if self.tables.free.is_empty() {
            self.refill()?;
        }
        match self.tables.free.pop() {
            Some(pfn) => {
                self.stats.pooled += 1;
                Ok(pfn)
            }
            None => self.alloc_frame(),
        }
    }

    /// Takes back a frame that was a page table.
    pub(crate) fn free_table_frame(&mut self, pfn: Pfn) {
        if !self.tables.take_back(pfn) {
            self.free_frame(pfn);
        }
    }

    fn refill(&mut self) -> Result<(), Error> {
        let mut taken: Vec<Pfn> = Vec::with_capacity(self.tables.size);
        while taken.len() < self.tables.size {
            match self.frames.alloc() {
                Some(pfn) => taken.push(pfn),
                None => break,
            }
        }
        // One that is mapped on purpose was freed too early: its owner's trouble, not the pool's.
        while let Some(place) = taken.iter().position(|&pfn| self.is_mapped(pfn)) {
            self.frames.free(taken.swap_remove(place));
        }
        let frames: FrameSet = taken.iter().copied().collect();
        if let Err(error) = self.clear_dead(&frames) {
            for pfn in taken {
                self.frames.free(pfn);
            }
            return Err(error);
        }
        self.stats.refills += 1;
        for &pfn in &taken {
            self.tables.clean.set(pfn);
        }
        self.tables.free = taken;
        Ok(())
    }
}
