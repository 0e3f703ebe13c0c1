//! Free frames, and frames that become free when their last lazy mapping is cleared.

use crate::addr::Pfn;
use alloc::collections::{BTreeSet, VecDeque};
use core::ops::Range;

/// Which of the free frames is allocated next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// The one freed last: its contents are in the CPU's caches, and its dead mappings, if any, are
    /// the youngest.
    #[default]
    Newest,
    /// The one freed first.
    Oldest,
}

/// The guest's free frames.
#[derive(Debug, Default)]
pub(crate) struct FramePool {
    free: VecDeque<Pfn>,
    /// Freed by their owner, but not reused before their lazy mappings are cleared.
    deferred: BTreeSet<Pfn>,
    pub(crate) reuse: Reuse,
    /// The range of all frames that were ever free.
    bounds: Range<Pfn>,
}

impl FramePool {
    pub(crate) fn new(free: impl IntoIterator<Item = Pfn>) -> FramePool {
        let free: VecDeque<Pfn> = free.into_iter().collect();
        let first = free.iter().min().copied().unwrap_or_default();
        let end = free.iter().max().map_or(first, |last| Pfn(last.0 + 1));
        FramePool { free, deferred: BTreeSet::new(), reuse: Reuse::default(), bounds: first..end }
    }

    /// Whether the frame may have been allocated here: frames of the kernel image never were.
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
        debug_assert!(!self.deferred.contains(&pfn), "frame {pfn} was freed already");
        self.free.push_back(pfn);
    }

    /// Notes that a frame is freed as soon as its lazy mappings are cleared.
    pub(crate) fn defer_free(&mut self, pfn: Pfn) {
        self.deferred.insert(pfn);
    }

    /// Frees a frame whose lazy mappings were cleared, if its free was deferred.
    pub(crate) fn free_deferred(&mut self, pfn: Pfn) {
        if self.deferred.remove(&pfn) {
            self.free.push_back(pfn);
        }
    }

    /// Free frames.
    pub(crate) fn available(&self) -> usize {
        self.free.len()
    }

    /// Frames whose free is deferred.
    pub(crate) fn deferred(&self) -> usize {
        self.deferred.len()
    }
}
