//! Page tables that are being built: none is in use, and the direct map has all of them writable.

use super::{Error, Leaf, Mmu};
use crate::addr::{Level, Pfn, Vaddr, index_at};
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate};

/// Flags of an entry that points to a lower table.
pub(super) const TABLE: EntryFlags = EntryFlags::PRESENT
    .union(EntryFlags::WRITABLE)
    .union(EntryFlags::USER)
    .union(EntryFlags::ACCESSED)
    .union(EntryFlags::DIRTY);

/// A table and all tables below it, not in use.
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Mmu::free_tables"]
pub struct UnpinnedTables {
    /// The root first.
    pub(super) tables: Vec<Pfn>,
    pub(super) level: u8,
}

impl UnpinnedTables {
    /// Level of the root table, 1 to 4.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The frame of the root table.
    pub fn root(&self) -> Pfn {
        self.tables[0]
    }

    /// The frames of all tables, the root's first.
    pub fn frames(&self) -> &[Pfn] {
        &self.tables
    }
}

impl<P: Platform> Mmu<P> {
    /// Allocates an empty table of this level, below which [`map_in`](Mmu::map_in) adds others.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`].
    ///
    /// # Panics
    ///
    /// If the level is not 1 to 4.
    pub fn alloc_tables(&mut self, level: u8) -> Result<UnpinnedTables, Error> {
        assert!((1..=4).contains(&level), "there is no level {level}");
        let root = self.alloc_empty_table()?;
        Ok(UnpinnedTables { tables: alloc::vec![root], level })
    }

    /// Allocates a root table with the kernel's part of the loaded one: all slots but those of the
    /// hypervisor and the lower half.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`].
    pub fn alloc_root(&mut self) -> Result<UnpinnedTables, Error> {
        let tables = self.alloc_tables(4)?;
        let current = self.entries.platform.root();
        for slot in HYPERVISOR_SLOTS.end..crate::addr::TABLE_ENTRIES {
            let entry = self.read(current, slot);
            self.write(tables.root(), slot, entry);
        }
        Ok(tables)
    }

    /// Maps an address, making the tables that it needs.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`]; tables made until then stay.
    pub fn map_in(
        &mut self,
        tables: &mut UnpinnedTables,
        va: Vaddr,
        leaf: Leaf,
    ) -> Result<(), Error> {
        let table = self.table_in(tables, va, 1)?;
        let val = self.entries.leaf_entry(leaf);
        self.write(table, va.index(Level::L1).get(), val);
        let ptr = self.mfn(table).entry_address(va.index(Level::L1));
        self.entries.note_mapped(MmuUpdate { ptr, val }, leaf.frame, va);
        Ok(())
    }

    /// The table of this level for an address. It and those above it are made if they are missing.
    pub(super) fn table_in(
        &mut self,
        tables: &mut UnpinnedTables,
        va: Vaddr,
        level: u8,
    ) -> Result<Pfn, Error> {
        let mut table = tables.root();
        for level in (level + 1..=tables.level).rev() {
            let index = index_at(va, level);
            let entry = self.read(table, index);
            table = match self.table_below(&tables.tables, entry) {
                Some(below) => below,
                None => {
                    let below = self.alloc_empty_table()?;
                    tables.tables.push(below);
                    let entry = self.mfn(below).address() | TABLE.bits();
                    self.write(table, index, entry);
                    below
                }
            };
        }
        Ok(table)
    }

    fn alloc_empty_table(&mut self) -> Result<Pfn, Error> {
        let table = self.alloc_table_frame()?;
        self.clear_frame(table);
        self.entries.note_in_use(&[table], false);
        Ok(table)
    }

    /// Frees page tables.
    pub fn free_tables(&mut self, tables: UnpinnedTables) {
        self.entries.note_tables_freed(&tables.tables);
        for pfn in tables.tables {
            self.free_table_frame(pfn);
        }
    }
}
