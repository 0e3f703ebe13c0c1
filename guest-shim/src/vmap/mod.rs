//! Areas of kernel addresses that map frames side by side, and are cleared late.
//!
//! Clearing a mapping costs a flush of every CPU's TLB, so that kernels collect dead mappings and
//! clear many at once. Until then each is an alias of a frame that may have become anything. When
//! that happens is the [`Policy`]:
//!
//! | policy | a dead mapping is cleared | before a pin |
//! |---|---|---|
//! | `Eager` | at once | nothing is left to do |
//! | `Batch(n)` | with n - 1 others | all are cleared |
//! | `Lazy` | when too many pages are dead | all are cleared |
//! | `HoldRefs` | as `Lazy`; its frame is not given out before | nothing, but for frames never given back |
//! | `Hinted` | as `Lazy` | all are cleared, if a frame to be pinned has one: each frame has a count |
//! | `Targeted` | as `Lazy` | those of the frames to be pinned, found in an index, are cleared |

mod areas;
mod blocks;
mod hints;
mod index;
#[cfg(feature = "raw")]
mod leaked_blocks;
mod ops;
mod regions;
mod small;

pub use blocks::{BLOCK_PAGES, SMALL_PAGES};
pub use ops::Area;
pub use regions::Region;

use crate::addr::{Pfn, Vaddr};
use crate::freed::FreedMap;
use crate::mmu::Window;
use crate::per_frame::{Counts, FrameSet};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use blocks::Blocks;
use hints::Hints;
use index::Index;
use regions::Regions;

/// When dead mappings are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At once.
    Eager,
    /// In batches of so many areas.
    Batch(usize),
    /// When too many pages are dead.
    Lazy,
    /// As `Lazy`, and frames are kept back as long as a dead mapping has them.
    HoldRefs,
    /// As `Lazy`, but a pin clears them only if one of its frames has some.
    Hinted,
    /// As `Lazy`, and a pin clears those of its frames.
    Targeted,
}

impl Policy {
    /// Whether dead mappings are indexed by frame.
    fn has_index(self) -> bool {
        matches!(self, Policy::HoldRefs | Policy::Targeted)
    }
}

impl core::fmt::Display for Policy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Policy::Eager => f.write_str("eager"),
            Policy::Batch(size) => write!(f, "batch{size}"),
            Policy::Lazy => f.write_str("lazy"),
            Policy::HoldRefs => f.write_str("holdrefs"),
            Policy::Hinted => f.write_str("hinted"),
            Policy::Targeted => f.write_str("targeted"),
        }
    }
}

/// What the range is called, but for the parts that have a name of their own.
pub(crate) const NAME: &str = "vmap";

/// Dead pages that the lazy policies leave for one CPU; as many more for each doubling of the
/// CPUs, since each one makes a flush dearer.
const LAZY_PAGES_PER_STEP: u64 = 1024;

/// An area that nobody uses any more.
#[derive(Clone, Copy, Debug)]
struct Dead {
    first: u64,
    pages: u64,
    /// Its addresses come back with its block's, not by themselves.
    in_block: bool,
    /// When it died.
    since: u64,
}

/// The areas of the vmap range.
#[derive(Debug)]
pub(crate) struct Vmap {
    window: Window,
    /// Pages of dead areas.
    freed: FreedMap,
    policy: Policy,
    free: Regions,
    /// Frames of the live areas, by first page.
    live: BTreeMap<u64, Vec<Pfn>>,
    /// How many live mappings a frame has.
    live_counts: Counts,
    /// Dead areas whose mappings may still be there, the oldest first.
    dead: Vec<Dead>,
    dead_pages: u64,
    /// The time, as far as [`Mmu::purge_aged`](crate::mmu::Mmu::purge_aged) was told.
    now: u64,
    /// What small areas are carved from.
    blocks: Blocks,
    /// First pages of blocks whose areas are all dead: they come back with the next clearing.
    drained: Vec<u64>,
    #[cfg(feature = "raw")]
    leaked: leaked_blocks::LeakedBlocks,
    /// Dead mappings by frame.
    index: Index,
    /// How many dead mappings a frame has.
    hints: Hints,
    /// Dead pages that are left for later by the lazy policies.
    limit: u64,
}

impl Vmap {
    /// Without any address.
    pub(crate) fn closed(policy: Policy) -> Vmap {
        Vmap::new(Window::closed(), FreedMap::new(0), policy, 1)
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
            leaked: leaked_blocks::LeakedBlocks::default(),
            index: Index::new(pages),
            hints: Hints::default(),
            limit: (LAZY_PAGES_PER_STEP * steps).min(pages / 2),
        }
    }

    /// Whether the address is one of these.
    pub(crate) fn covers(&self, va: Vaddr) -> bool {
        self.window.contains(va)
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Dead mappings that may still be there.
    fn lazy(&self) -> u64 {
        if self.policy.has_index() { self.index.len() } else { self.dead_pages }
    }

    /// What the pages are that live areas map: addresses and frames.
    pub(crate) fn live_pages(&self) -> impl Iterator<Item = (Vaddr, Pfn)> {
        self.live.iter().flat_map(|(&first, frames)| {
            (first..).zip(frames).map(|(page, &frame)| (self.window.va(page), frame))
        })
    }

    /// The live area that an address is in, by its first page, and which of its pages that is.
    fn live_at(&self, va: Vaddr) -> Option<(u64, usize)> {
        let page = va.0.wrapping_sub(self.window.va(0).0) >> 12;
        let (&first, frames) = self.live.range(..=page).next_back()?;
        let place = (page - first) as usize;
        (place < frames.len()).then_some((first, place))
    }

    /// Whether a live area maps this address.
    pub(crate) fn is_live_at(&self, va: Vaddr) -> bool {
        self.live_at(va).is_some()
    }

    /// Notes that a live area maps another frame at this address.
    pub(crate) fn replace(&mut self, va: Vaddr, frame: Pfn) {
        let Some((first, place)) = self.live_at(va) else { return };
        let Some(frames) = self.live.get_mut(&first) else { return };
        let before = core::mem::replace(&mut frames[place], frame);
        self.live_counts.subtract(before);
        self.live_counts.add(frame);
    }

    /// Notes that the dead mappings of these frames were cleared.
    pub(crate) fn forget_dead(&mut self, frames: &FrameSet) {
        self.index.forget(frames);
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// Whether a dead mapping of the frame may still be there.
    pub(crate) fn has_lazy(&self, pfn: Pfn) -> bool {
        self.index.contains(pfn)
    }

    /// Forgets that a frame has dead mappings, though it has.
    #[cfg(feature = "raw")]
    pub(crate) fn lose(&mut self, frame: Pfn) {
        self.index.forget(&FrameSet::from_iter([frame]));
    }

    /// Notes that a dead mapping was cleared, if the address is one of these; its frame, if no other
    /// is known of it.
    pub(crate) fn forget(&mut self, va: Vaddr) -> Option<Pfn> {
        let frame = self.index.forget_page(self.window.page(va)?)?;
        (!self.index.contains(frame)).then_some(frame)
    }

    /// Whether a live area maps the frame.
    pub(crate) fn is_live(&self, pfn: Pfn) -> bool {
        self.live_counts.get(pfn) != 0
    }

    /// Where one of these frames is mapped by a live area, if any is.
    pub(crate) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        let frame = frames.iter().find(|&pfn| self.is_live(pfn))?;
        // Only a frame that is there is searched for.
        self.live.iter().find_map(|(&first, area)| {
            let page = area.iter().position(|&pfn| pfn == frame)?;
            Some(self.window.va(first + page as u64))
        })
    }

    /// Whether a dead mapping of one of these frames may still be there, by the counts.
    pub(crate) fn is_hinted(&self, frames: &FrameSet) -> bool {
        self.hints.any(frames)
    }

    /// Whether it is time to clear all dead mappings.
    fn is_full(&self) -> bool {
        match self.policy {
            Policy::Eager => !self.dead.is_empty(),
            Policy::Batch(size) => self.dead.len() >= size,
            Policy::Lazy | Policy::HoldRefs | Policy::Hinted | Policy::Targeted => {
                self.dead_pages > self.limit
            }
        }
    }
}
