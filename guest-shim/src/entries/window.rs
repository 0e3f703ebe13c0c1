//! A range of kernel addresses that has page tables of its own, made once.

use crate::addr::{Index, Mfn, PAGE_SIZE, TABLE_ENTRIES, Vaddr};
use alloc::vec::Vec;
use pinfold_abi::pinfold::Range;

/// A range of pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    start: Vaddr,
    pages: u64,
}

impl Window {
    pub(crate) const fn new(start: Vaddr, pages: u64) -> Window {
        Window { start, pages }
    }

    /// A range of no pages.
    pub(crate) const fn empty() -> Window {
        Window::new(Vaddr(0), 0)
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    pub(crate) fn range(&self) -> Range {
        Range { start: self.start.0, pages: self.pages }
    }

    pub(crate) fn contains(&self, va: Vaddr) -> bool {
        self.page(va).is_some()
    }

    /// The number of the page that contains an address.
    pub(crate) fn page(&self, va: Vaddr) -> Option<u64> {
        let page = va.0.wrapping_sub(self.start.0) / PAGE_SIZE;
        (page < self.pages).then_some(page)
    }

    /// Address of a page.
    pub(crate) fn va(&self, page: u64) -> Vaddr {
        self.start.page(page)
    }
}

/// A window with the leaf tables that translate it.
#[derive(Debug)]
pub(super) struct MappedWindow {
    pub(super) window: Window,
    pub(super) leaf_tables: Vec<Mfn>,
}

impl MappedWindow {
    /// Machine address of the entry of a page, by number.
    pub(super) fn entry_addr(&self, page: u64) -> u64 {
        let table = self.leaf_tables[page as usize / TABLE_ENTRIES];
        table.entry_address(Index::new_truncate(page))
    }
}
