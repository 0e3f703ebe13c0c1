//! The last translations that a CPU found in the tables of a guest in a hardware container, whose address
//! space the hypervisor can't load (`memory::guest_walk`).
//!
//! They are as good as the processor's own, and end with them: each belongs to the [`Epoch`] in which it
//! was found. Every flush of guest translations begins a new one, and so does every entry to the guest,
//! which can execute `invlpg` without an exit.

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

/// The time between two events after which no translation is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Generation of this CPU's ASIDs, which every flush ends.
    pub generation: u64,
    /// Number of the last entry to a guest.
    pub entry: u64,
}

/// A translation, with the time when it was found.
#[derive(Clone, Copy, Debug)]
struct Kept {
    walk: Walk,
    epoch: Epoch,
}

/// The translations, by the low bits of the page's number.
#[derive(Debug)]
pub struct WalkCache([Kept; KEPT]);

impl WalkCache {
    /// No translations.
    pub const fn new() -> WalkCache {
        let walk = Walk { page: NO_PAGE, frame: core::ptr::null_mut(), is_writable: false };
        WalkCache([Kept { walk, epoch: Epoch { generation: 0, entry: 0 } }; KEPT])
    }

    /// The frame of a page, if it is known in this epoch and may be accessed so.
    #[inline]
    pub fn find(&self, page: u64, writes: bool, epoch: Epoch) -> Option<*mut u8> {
        let kept = &self.0[page as usize % KEPT];
        let fits =
            kept.walk.page == page && kept.epoch == epoch && (kept.walk.is_writable || !writes);
        fits.then_some(kept.walk.frame)
    }

    /// Keeps a translation that was found in this epoch.
    pub fn keep(&mut self, walk: Walk, epoch: Epoch) {
        self.0[walk.page as usize % KEPT] = Kept { walk, epoch };
    }

    /// Drops the translation of a page.
    pub fn forget(&mut self, page: u64) {
        let kept = &mut self.0[page as usize % KEPT];
        if kept.walk.page == page {
            kept.walk.page = NO_PAGE;
        }
    }
}
