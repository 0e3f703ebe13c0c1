//! Which areas exist, alive and dead.

use super::area::DeadArea;
use super::blocks::Blocks;
#[cfg(feature = "raw")]
use super::blocks::LeakedBlocks;
use super::hints::Hints;
use super::index::Index;
use super::policy::Policy;
use super::regions::Regions;
use crate::addr::{Pfn, Vaddr};
use crate::entries::{FreedMap, Window};
use crate::frames::{Counts, FrameSet};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Dead pages that the lazy policies leave on one CPU, and for each doubling of the CPUs: a flush
/// costs more with each CPU.
const LAZY_PAGES_PER_STEP: u64 = 1024;

/// The areas of the vmap range.
#[derive(Debug)]
pub(crate) struct Vmap {
    pub(super) window: Window,
    /// Pages of dead areas.
    pub(super) freed: FreedMap,
    pub(super) policy: Policy,
    /// Free addresses.
    pub(super) free: Regions,
    /// Frames of the live areas, by first page.
    pub(super) live: BTreeMap<u64, Vec<Pfn>>,
    /// Live mappings of each frame.
    pub(super) live_counts: Counts,
    /// Dead areas whose mappings may still exist, the oldest first.
    pub(super) dead: Vec<DeadArea>,
    pub(super) dead_pages: u64,
    /// The time that the kernel passed last, in its own unit.
    pub(super) now: u64,
    /// What small areas are carved from.
    pub(super) blocks: Blocks,
    /// First pages of blocks whose areas are all dead: their addresses are free after the next
    /// purge.
    pub(super) drained: Vec<u64>,
    /// Blocks that a test has leaked.
    #[cfg(feature = "raw")]
    pub(super) leaked: LeakedBlocks,
    /// Dead mappings by frame, for policies with an index.
    pub(super) index: Index,
    /// How many dead mappings a frame has, for [`Policy::Hinted`].
    pub(super) hints: Hints,
    /// Dead pages that the lazy policies leave.
    pub(super) limit: u64,
}

impl Vmap {
    /// A range of no addresses.
    pub(crate) fn empty(policy: Policy) -> Vmap {
        Vmap::new(Window::empty(), FreedMap::new(0), policy, 1)
    }

    pub(crate) fn new(window: Window, freed: FreedMap, policy: Policy, cpus: usize) -> Vmap {
        let pages = window.pages();
        let steps = 1 + u64::from(cpus.max(1).ilog2());
        Vmap {
            window,
            freed,
            policy,
            free: Regions::new(pages),
            live: BTreeMap::new(),
            live_counts: Counts::default(),
            dead: Vec::new(),
            dead_pages: 0,
            now: 0,
            blocks: Blocks::default(),
            drained: Vec::new(),
            #[cfg(feature = "raw")]
            leaked: LeakedBlocks::default(),
            index: Index::new(pages),
            hints: Hints::default(),
            limit: (LAZY_PAGES_PER_STEP * steps).min(pages / 2),
        }
    }

    /// Whether an address is in the range.
    pub(crate) fn covers(&self, va: Vaddr) -> bool {
        self.window.contains(va)
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn set_limit(&mut self, pages: u64) {
        self.limit = pages;
    }

    /// Dead mappings that may still exist.
    pub(crate) fn dead_mappings(&self) -> u64 {
        if self.policy.has_index() { self.index.len() } else { self.dead_pages }
    }

    /// The pages of live areas: addresses and frames.
    pub(crate) fn live_pages(&self) -> impl Iterator<Item = (Vaddr, Pfn)> {
        self.live.iter().flat_map(|(&first, frames)| {
            (first..).zip(frames).map(|(page, &frame)| (self.window.va(page), frame))
        })
    }

    /// The live area that maps an address: its first page, and which of its pages it is.
    fn live_at(&self, va: Vaddr) -> Option<(u64, usize)> {
        let page = self.window.page(va)?;
        let (&first, frames) = self.live.range(..=page).next_back()?;
        let offset = (page - first) as usize;
        (offset < frames.len()).then_some((first, offset))
    }

    /// Whether a live area maps this address.
    pub(crate) fn is_live_at(&self, va: Vaddr) -> bool {
        self.live_at(va).is_some()
    }

    /// Records that a live area maps another frame at this address.
    pub(crate) fn replace(&mut self, va: Vaddr, frame: Pfn) {
        let Some((first, offset)) = self.live_at(va) else { return };
        let Some(frames) = self.live.get_mut(&first) else { return };
        let before = core::mem::replace(&mut frames[offset], frame);
        self.live_counts.decrement(before);
        self.live_counts.increment(frame);
    }

    /// Records that the dead mappings of these frames were cleared.
    pub(crate) fn forget_dead(&mut self, frames: &FrameSet) {
        self.index.forget(frames);
    }

    /// Whether a dead mapping of the frame may still exist, by the index.
    pub(crate) fn has_dead(&self, pfn: Pfn) -> bool {
        self.index.contains(pfn)
    }

    /// Records that a dead mapping was cleared, if the index has the address. Returns the frame if
    /// that was its last one.
    pub(crate) fn forget(&mut self, va: Vaddr) -> Option<Pfn> {
        let frame = self.index.forget_page(self.window.page(va)?)?;
        (!self.index.contains(frame)).then_some(frame)
    }

    /// Whether a live area maps the frame.
    pub(crate) fn is_live(&self, pfn: Pfn) -> bool {
        self.live_counts.get(pfn) != 0
    }

    /// Where a live area maps one of these frames.
    pub(crate) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        let frame = frames.iter().find(|&pfn| self.is_live(pfn))?;
        // The search is long, but only a frame that is mapped gets here.
        self.live.iter().find_map(|(&first, area)| {
            let offset = area.iter().position(|&pfn| pfn == frame)?;
            Some(self.window.va(first + offset as u64))
        })
    }

    /// Whether a dead mapping of one of these frames may still exist, by the counts of
    /// [`Policy::Hinted`].
    pub(crate) fn is_hinted(&self, frames: &FrameSet) -> bool {
        self.hints.any(frames)
    }

    /// Whether it is time to clear all dead mappings.
    pub(super) fn is_full(&self) -> bool {
        match self.policy {
            Policy::Eager => !self.dead.is_empty(),
            Policy::Batch(size) => self.dead.len() >= size,
            Policy::Lazy | Policy::HoldRefs | Policy::Hinted | Policy::Targeted => {
                self.dead_pages > self.limit
            }
        }
    }
}
