//! Dead mappings by frame: what makes it possible to clear just those that matter.

use crate::addr::Pfn;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// For each frame, the pages of the range that may still map it.
#[derive(Debug, Default)]
pub(super) struct Index {
    pages: BTreeMap<Pfn, Vec<u64>>,
}

impl Index {
    pub(super) fn add(&mut self, pfn: Pfn, page: u64) {
        self.pages.entry(pfn).or_default().push(page);
    }

    pub(super) fn contains(&self, pfn: Pfn) -> bool {
        self.pages.contains_key(&pfn)
    }

    /// The pages that map one of these frames, in order; they are in the index no longer.
    pub(super) fn take(&mut self, frames: &BTreeSet<Pfn>) -> Vec<u64> {
        if self.pages.is_empty() {
            return Vec::new();
        }
        let mut pages: Vec<u64> =
            frames.iter().filter_map(|pfn| self.pages.remove(pfn)).flatten().collect();
        pages.sort_unstable();
        pages
    }

    /// All pages, in order.
    pub(super) fn pages(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self.pages.values().flatten().copied().collect();
        pages.sort_unstable();
        pages
    }

    /// Forgets everything; the frames that were in it.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Pfn> {
        core::mem::take(&mut self.pages).into_keys()
    }
}
