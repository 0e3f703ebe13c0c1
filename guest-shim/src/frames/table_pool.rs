//! Frames known to have no alias, kept for page tables.
//!
//! **Clean** is a mark on a frame: since the frame was cleaned, only the direct map has mapped it
//! writable. The mark is set when the pool is filled and removed when a writable entry for the
//! frame is made. A caller may map a frame of the pool, by mistake or on purpose: the frame loses
//! its mark, and a pin examines it like any other.

use super::Marks;
use crate::addr::Pfn;
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
    /// Frames in the pool.
    pub(crate) fn len(&self) -> usize {
        self.free.len()
    }

    /// Frames cleaned at a time.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn set_size(&mut self, size: usize) {
        self.size = size;
    }

    pub(crate) fn is_clean(&self, pfn: Pfn) -> bool {
        self.clean.has(pfn)
    }

    /// Removes the clean mark: a writable mapping of the frame is about to be made.
    pub(crate) fn mark_mapped(&mut self, pfn: Pfn) {
        self.clean.clear(pfn);
    }

    /// Takes a frame for a page table.
    pub(crate) fn alloc(&mut self) -> Option<Pfn> {
        self.free.pop()
    }

    /// Fills the empty pool with frames that were just cleaned.
    pub(crate) fn fill(&mut self, frames: Vec<Pfn>) {
        for &pfn in &frames {
            self.clean.set(pfn);
        }
        self.free = frames;
    }

    /// Puts the frame of a freed table back, if it is clean and there is room. Returns whether it
    /// did.
    pub(crate) fn put(&mut self, pfn: Pfn) -> bool {
        // Room for two fillings, so that a guest that frees and allocates in turn does not refill
        // the pool each time.
        let fits = self.clean.has(pfn) && self.free.len() < 2 * self.size;
        if fits {
            self.free.push(pfn);
        } else {
            self.clean.clear(pfn);
        }
        fits
    }

    /// Takes a frame for any use.
    pub(crate) fn take_any(&mut self) -> Option<Pfn> {
        let pfn = self.free.pop()?;
        self.clean.clear(pfn);
        Some(pfn)
    }
}
