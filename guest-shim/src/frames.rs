//! Free frames, and frames that are free as soon as their last lazy mapping is gone.

use crate::addr::Pfn;
use alloc::collections::{BTreeSet, VecDeque};
use core::ops::Range;

/// Which of the free frames is used next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// The one that was freed last: its contents are in the CPU's caches, and its dead mappings,
    /// if it has any, are the youngest.
    #[default]
    Newest,
    /// The one that was freed first.
    Oldest,
}

/// The guest's free frames.
#[derive(Debug, Default)]
pub(crate) struct FramePool {
    free: VecDeque<Pfn>,
    /// Freed, but kept back until their lazy mappings are cleared.
    held: BTreeSet<Pfn>,
    pub(crate) reuse: Reuse,
    /// All frames that ever were free are in here.
    bounds: Range<Pfn>,
}

impl FramePool {
    pub(crate) fn new(free: impl IntoIterator<Item = Pfn>) -> FramePool {
        let free: VecDeque<Pfn> = free.into_iter().collect();
        let first = free.iter().min().copied().unwrap_or_default();
        let end = free.iter().max().map_or(first, |last| Pfn(last.0 + 1));
        FramePool { free, held: BTreeSet::new(), reuse: Reuse::default(), bounds: first..end }
    }

    /// Whether the frame may have come from here: frames of the image never did.
    pub(crate) fn covers(&self, pfn: Pfn) -> bool {
        self.bounds.contains(&pfn)
    }

    pub(crate) fn alloc(&mut self) -> Option<Pfn> {
        match self.reuse {
            Reuse::Newest => self.free.pop_back(),
            Reuse::Oldest => self.free.pop_front(),
        }
    }

    pub(crate) fn free(&mut self, pfn: Pfn) {
        debug_assert!(!self.held.contains(&pfn), "frame {pfn} was freed already");
        self.free.push_back(pfn);
    }

    /// Keeps a freed frame back.
    pub(crate) fn hold(&mut self, pfn: Pfn) {
        self.held.insert(pfn);
    }

    /// Frees a frame that was kept back, if it was.
    pub(crate) fn release(&mut self, pfn: Pfn) {
        if self.held.remove(&pfn) {
            self.free.push_back(pfn);
        }
    }

    pub(crate) fn available(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }
}
