//! Page tables that are being built: no part of them is in use, all are writable at their homes.

use super::{Error, Mmu};
use crate::addr::{Level, Pfn, Vaddr, index_at};
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate};

/// Flags of an entry that leads to a lower table.
pub(super) const TABLE: EntryFlags = EntryFlags::PRESENT
    .union(EntryFlags::WRITABLE)
    .union(EntryFlags::USER)
    .union(EntryFlags::ACCESSED)
    .union(EntryFlags::DIRTY);

/// What an address maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The frame.
    pub frame: Pfn,
    /// Whether it may be written through the mapping.
    pub writable: bool,
    /// Whether guest user mode may use the mapping.
    pub user: bool,
}

impl Leaf {
    /// A mapping for the kernel to read and write.
    pub const fn kernel(frame: Pfn) -> Leaf {
        Leaf { frame, writable: true, user: false }
    }

    /// The entry's flag bits.
    fn flags(self) -> u64 {
        let mut flags = EntryFlags::PRESENT | EntryFlags::ACCESSED | EntryFlags::DIRTY;
        flags.set(EntryFlags::WRITABLE, self.writable);
        flags.set(EntryFlags::USER, self.user);
        flags.bits()
    }
}

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

    /// The frames of all tables, the root's first.
    pub fn frames(&self) -> &[Pfn] {
        &self.tables
    }
}

impl<P: Platform> Mmu<P> {
    /// An empty table of this level.
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
        let root = self.alloc_table_frame()?;
        self.clear_frame(root);
        self.note_in_use(&[root], false);
        Ok(UnpinnedTables { tables: alloc::vec![root], level })
    }

    /// A root table that shares the kernel's part of the loaded one: everything but the
    /// hypervisor's slots and the lower half.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`].
    pub fn alloc_root(&mut self) -> Result<UnpinnedTables, Error> {
        let tree = self.alloc_tables(4)?;
        let current = self.platform.root();
        for slot in HYPERVISOR_SLOTS.end..512 {
            let entry = self.read(current, slot);
            self.write(tree.tables[0], slot, entry);
        }
        Ok(tree)
    }

    /// Maps an address in a tree, making the tables that lead there.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`]; tables made until then stay in the tree.
    pub fn map_in(
        &mut self,
        tree: &mut UnpinnedTables,
        va: Vaddr,
        leaf: Leaf,
    ) -> Result<(), Error> {
        let table = self.table_in(tree, va, 1)?;
        let val = self.leaf_entry(leaf);
        self.write(table, va.index(Level::L1).get(), val);
        let ptr = self.platform.mfn(table).entry_address(va.index(Level::L1));
        self.note_mapped(MmuUpdate { ptr, val }, leaf.frame, va);
        Ok(())
    }

    /// The table of this level for an address of a tree; it and those that lead there are made.
    pub(super) fn table_in(
        &mut self,
        tree: &mut UnpinnedTables,
        va: Vaddr,
        level: u8,
    ) -> Result<Pfn, Error> {
        let mut table = tree.tables[0];
        for level in (level + 1..=tree.level).rev() {
            let index = index_at(va, level);
            let entry = self.read(table, index);
            table = match tree.below(self, entry) {
                Some(below) => below,
                None => {
                    let below = self.alloc_table_frame()?;
                    self.clear_frame(below);
                    self.note_in_use(&[below], false);
                    tree.tables.push(below);
                    let entry = self.platform.mfn(below).address() | TABLE.bits();
                    self.write(table, index, entry);
                    below
                }
            };
        }
        Ok(table)
    }

    /// Writes a word of a tree's root as it is: for tests that build what must be refused.
    #[cfg(feature = "raw")]
    pub fn write_entry(&mut self, tree: &UnpinnedTables, index: usize, entry: u64) {
        self.write(tree.tables[0], index, entry);
    }

    /// The entry that maps a frame, as memory of the frame's type. Every writable one is made here: what is said of frames that
    /// nothing maps is taken back.
    ///
    /// # Panics
    ///
    /// If the mapping is writable and the frame is none that was given out here: the kernel's own
    /// memory is not to be had this way.
    pub(crate) fn leaf_entry(&mut self, leaf: Leaf) -> u64 {
        let Leaf { frame, writable, .. } = leaf;
        if writable {
            assert!(self.frames.covers(frame), "frame {frame} is not for data");
            self.tables.mark_mapped(frame);
        }
        let memory = self.memory.of(frame).flags().bits();
        self.platform.mfn(frame).address() | leaf.flags() | memory
    }

    /// Gives the frames of a tree back.
    pub fn free_tables(&mut self, tree: UnpinnedTables) {
        self.note_dropped(&tree.tables);
        for pfn in tree.tables {
            self.free_table_frame(pfn);
        }
    }
}

impl UnpinnedTables {
    /// Which of the tree's tables an entry leads to.
    fn below<P: Platform>(&self, mmu: &Mmu<P>, entry: u64) -> Option<Pfn> {
        if entry & EntryFlags::PRESENT.bits() == 0 {
            return None;
        }
        let mfn = (entry & pinfold_abi::mmu::ENTRY_ADDRESS) >> 12;
        self.tables.iter().copied().find(|&pfn| mmu.platform.mfn(pfn).0 == mfn)
    }
}
