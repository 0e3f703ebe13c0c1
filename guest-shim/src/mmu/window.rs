//! Making the tables of the vmap and kmap ranges.

use super::{Error, Leaf, Mmu, UnpinnedTables};
use crate::addr::{Level, Mfn, PAGE_SIZE, TABLE_ENTRIES, Vaddr};
use crate::entries::Window;
use crate::platform::Platform;
use alloc::vec::Vec;

/// Pages that an L3 entry translates.
const L3_ENTRY_PAGES: u64 = (TABLE_ENTRIES * TABLE_ENTRIES) as u64;

impl<P: Platform> Mmu<P> {
    /// Makes the tables of a range and links them below the loaded root. The range is a part of
    /// what one L3 entry translates, and its L4 slot is free.
    pub(super) fn open_window(&mut self, start: Vaddr, pages: u64) -> Result<Window, Error> {
        let per_table = TABLE_ENTRIES as u64;
        assert!(
            pages.is_multiple_of(per_table) && pages <= L3_ENTRY_PAGES,
            "{pages} pages make no window"
        );
        let aligned = start.0.is_multiple_of(L3_ENTRY_PAGES * PAGE_SIZE);
        assert!(aligned, "a window starts at a gigabyte");
        let mut tables = self.alloc_tables(3)?;
        let mut leaf_tables = Vec::new();
        for chunk in 0..pages / per_table {
            let table = self.leaf_table_in(&mut tables, start.page(chunk * per_table))?;
            leaf_tables.push(table);
        }
        let root = self.entries.platform.root();
        self.link(root, start.index(Level::L4).get(), &tables)?;
        // The tables stay for as long as the kernel runs.
        drop(tables);
        let window = Window::new(start, pages);
        self.entries.add_window(window, leaf_tables);
        Ok(window)
    }

    /// Makes the leaf table of an address, empty.
    fn leaf_table_in(&mut self, tables: &mut UnpinnedTables, va: Vaddr) -> Result<Mfn, Error> {
        // Mapping something makes the tables; the entry itself is cleared again.
        let frame = tables.root();
        self.map_in(tables, va, Leaf { frame, writable: false, user: false })?;
        let table = tables.frames()[tables.frames().len() - 1];
        self.write(table, va.index(Level::L1).get(), 0);
        Ok(self.mfn(table))
    }
}
