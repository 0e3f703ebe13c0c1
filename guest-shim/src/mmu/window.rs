//! A range of kernel addresses with its own tables, made once: mapping in it is one entry of a
//! known table.

use super::{Error, Mmu, UnpinnedTables};
use crate::addr::{Index, Level, Mfn, Vaddr};
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::pinfold::Range;

/// The range, and the leaf tables behind it.
#[derive(Debug)]
pub(crate) struct Window {
    start: Vaddr,
    pages: u64,
    leaf_tables: Vec<Mfn>,
}

impl Window {
    /// A range of no pages.
    pub(crate) const fn closed() -> Window {
        Window { start: Vaddr(0), pages: 0, leaf_tables: Vec::new() }
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

    /// The page that an address is in.
    pub(crate) fn page(&self, va: Vaddr) -> Option<u64> {
        let page = va.0.wrapping_sub(self.start.0) >> 12;
        (page < self.pages).then_some(page)
    }

    /// Address of a page.
    pub(crate) fn va(&self, page: u64) -> Vaddr {
        self.start.page(page)
    }

    /// Machine address of the entry that maps an address.
    ///
    /// # Panics
    ///
    /// If the address is not in the range.
    pub(crate) fn entry_addr(&self, va: Vaddr) -> u64 {
        let page = va.0.wrapping_sub(self.start.0) >> 12;
        assert!(page < self.pages, "{va} is not in the window");
        self.leaf_tables[(page / 512) as usize].entry_address(Index::new_truncate(page))
    }
}

impl<P: Platform> Mmu<P> {
    /// Makes the tables of a range and hangs them into the loaded root. The range starts at an L3
    /// entry's boundary and has at most 512 leaf tables; its L4 slot is free.
    pub(super) fn open_window(&mut self, start: Vaddr, pages: u64) -> Result<Window, Error> {
        assert!(pages.is_multiple_of(512) && pages <= 512 * 512, "{pages} pages make no window");
        assert!(start.0.is_multiple_of(1 << 30), "a window starts at a gigabyte");
        let mut tree = self.alloc_tables(3)?;
        let mut leaf_tables = Vec::new();
        for chunk in 0..pages / 512 {
            let table = self.leaf_table_in(&mut tree, start.page(chunk * 512))?;
            leaf_tables.push(table);
        }
        let root = self.platform.root();
        self.link(root, start.index(Level::L4).get(), &tree)?;
        // The tables stay for as long as the kernel runs.
        drop(tree);
        Ok(Window { start, pages, leaf_tables })
    }

    /// Makes the leaf table of an address, empty.
    fn leaf_table_in(&mut self, tree: &mut UnpinnedTables, va: Vaddr) -> Result<Mfn, Error> {
        // Mapping makes the tables; the entry itself is taken away again.
        let any = tree.tables[0];
        self.map_in(tree, va, super::Leaf { frame: any, writable: false, user: false })?;
        let table = tree.tables[tree.tables.len() - 1];
        self.write(table, va.index(Level::L1).get(), 0);
        Ok(self.platform.mfn(table))
    }
}
