//! Free frames, and frames that are free as soon as their last lazy mapping is gone.

use crate::addr::Pfn;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The guest's free frames.
#[derive(Debug, Default)]
pub(crate) struct FramePool {
    free: Vec<Pfn>,
    /// Freed, but kept back until their lazy mappings are cleared.
    held: BTreeSet<Pfn>,
}

impl FramePool {
    pub(crate) fn new(free: impl IntoIterator<Item = Pfn>) -> FramePool {
        FramePool { free: free.into_iter().collect(), held: BTreeSet::new() }
    }

    /// The frame that was freed last: it is the one most likely to have stray mappings, which is
    /// what caches do too.
    pub(crate) fn alloc(&mut self) -> Option<Pfn> {
        self.free.pop()
    }

    pub(crate) fn free(&mut self, pfn: Pfn) {
        debug_assert!(!self.held.contains(&pfn), "frame {pfn} was freed already");
        self.free.push(pfn);
    }

    /// Keeps a freed frame back.
    pub(crate) fn hold(&mut self, pfn: Pfn) {
        self.held.insert(pfn);
    }

    /// Frees a frame that was kept back, if it was.
    pub(crate) fn release(&mut self, pfn: Pfn) {
        if self.held.remove(&pfn) {
            self.free.push(pfn);
        }
    }

    pub(crate) fn available(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }
}
