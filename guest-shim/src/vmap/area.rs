//! Areas, alive and dead.

use crate::addr::Vaddr;

/// A mapped area, from [`Mmu::vmap`](crate::mmu::Mmu::vmap). It goes back with
/// [`Mmu::vunmap`](crate::mmu::Mmu::vunmap).
#[derive(Debug)]
#[must_use = "its addresses are lost when it is dropped; see Mmu::vunmap"]
pub struct Area {
    /// Number of its first page in the vmap range.
    pub(super) first: u64,
    pub(super) pages: u64,
    pub(super) start: Vaddr,
    /// Whether it was carved from a block.
    pub(super) in_block: bool,
}

impl Area {
    /// Address of its first page.
    pub fn start(&self) -> Vaddr {
        self.start
    }

    /// Pages mapped.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

/// A freed area whose mappings may still exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadArea {
    pub(super) first: u64,
    pub(super) pages: u64,
    /// Its addresses are free when its whole block is.
    pub(super) in_block: bool,
    /// When it was freed, by the clock of [`Vmap::purge_aged`](super::Vmap::purge_aged).
    pub(super) since: u64,
}

impl DeadArea {
    pub(super) fn page_range(&self) -> core::ops::Range<u64> {
        self.first..self.first + self.pages
    }
}
