//! The last translations that a CPU found in the tables of a guest in a hardware container, whose address
//! space the hypervisor can't load (`memory::guest_walk`).
//!
//! They are as good as the processor's own, and end with them: each belongs to the generation of this
//! CPU's ASIDs in which it was found, and every flush of guest translations begins a new one.

/// Translations that are kept: a power of two.
const KEPT: usize = 4;

/// No page has this number.
const NO_PAGE: u64 = u64::MAX;

/// A translation.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Number of the page.
    pub page: u64,
    /// Where the direct map has its frame.
    pub frame: *mut u8,
    /// Whether the tables allow to write to it.
    pub is_writable: bool,
}

/// A translation, with the generation in which it was found.
#[derive(Clone, Copy, Debug)]
struct Kept {
    walk: Walk,
    generation: u64,
}

/// The translations, by the low bits of the page's number.
#[derive(Debug)]
pub struct WalkCache([Kept; KEPT]);

impl WalkCache {
    /// No translations.
    pub const fn new() -> WalkCache {
        let walk = Walk { page: NO_PAGE, frame: core::ptr::null_mut(), is_writable: false };
        WalkCache([Kept { walk, generation: 0 }; KEPT])
    }

    /// The frame of a page, if it is known in this generation and may be accessed so.
    #[inline]
    pub fn find(&self, page: u64, writes: bool, generation: u64) -> Option<*mut u8> {
        let kept = &self.0[page as usize % KEPT];
        let fits = kept.walk.page == page
            && kept.generation == generation
            && (kept.walk.is_writable || !writes);
        fits.then_some(kept.walk.frame)
    }

    /// Keeps a translation that was found in this generation.
    pub fn keep(&mut self, walk: Walk, generation: u64) {
        self.0[walk.page as usize % KEPT] = Kept { walk, generation };
    }

    /// Drops the translation of a page.
    pub fn forget(&mut self, page: u64) {
        let kept = &mut self.0[page as usize % KEPT];
        if kept.walk.page == page {
            kept.walk.page = NO_PAGE;
        }
    }
}
