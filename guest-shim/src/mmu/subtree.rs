//! Whole tables hung into a space that is in use, and taken out again: many pages by one call.

use super::address_space::DIRECT_MAP_RW;
use super::{AddressSpace, Error, Mmu, UnpinnedTables};
use crate::addr::{Level, Mfn, Pfn, Vaddr, index_at};
use crate::platform::Platform;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags, MmuUpdate, UVMF_ALL, UVMF_INVLPG};

impl<P: Platform> Mmu<P> {
    /// Makes the tables of a tree that lead to an address, but for the leaf table: what
    /// [`link_subtree_at`](Mmu::link_subtree_at) wants.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`]; tables made until then stay in the tree.
    ///
    /// # Panics
    ///
    /// If the tree is a leaf table.
    pub fn alloc_intermediate_tables(
        &mut self,
        tree: &mut UnpinnedTables,
        va: Vaddr,
    ) -> Result<(), Error> {
        assert!(tree.level > 1, "a leaf table leads to pages");
        self.table_in(tree, va, 2).map(drop)
    }

    /// Hangs a tree where an address of a space is, below tables that lead there: it is in use from
    /// then on, as if pinned with the space.
    ///
    /// # Errors
    ///
    /// The tree comes back as it was, with the reason: [`Error::NoRoom`] without a table for it, or
    /// if something is there already; what a pin would have said; or the hypervisor's refusal.
    pub fn link_subtree_at(
        &mut self,
        space: &mut AddressSpace,
        va: Vaddr,
        tree: UnpinnedTables,
    ) -> Result<(), (UnpinnedTables, Error)> {
        let above = tree.level + 1;
        let Some(parent) = self.table_of(space, va, above) else {
            return Err((tree, Error::NoRoom));
        };
        let index = index_at(va, above);
        if self.read(parent, index) & EntryFlags::PRESENT.bits() != 0 {
            return Err((tree, Error::NoRoom));
        }
        if let Err(error) = self.link(parent, index, &tree) {
            return Err((tree, error));
        }
        space.tables.extend(tree.tables);
        Ok(())
    }

    /// Takes the leaf table of an address out of a space, with all that it maps, and flushes.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is none, or the hypervisor's refusal.
    pub fn unlink_leaf_table(
        &mut self,
        space: &mut AddressSpace,
        va: Vaddr,
    ) -> Result<UnpinnedTables, Error> {
        let found = self.table_of(space, va, 2).zip(self.table_of(space, va, 1));
        let Some((parent, table)) = found else { return Err(Error::NotMapped(va)) };
        let ptr = self.platform.mfn(parent).entry_address(va.index(Level::L2));
        self.platform.mmu_update(&[MmuUpdate { ptr, val: 0 }])?;
        // It is no table any more, whatever fails from here on.
        space.tables.retain(|&other| other != table);
        self.note_in_use(&[table], false);
        self.flush()?;
        self.set_direct_map_prot(&[table], DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL)?;
        Ok(UnpinnedTables { tables: alloc::vec![table], level: 1 })
    }

    /// The frame that may be written to at an address of a space's lower half. Whether that is for
    /// user mode the entry doesn't say: the hypervisor makes every page user mode's, as the kernel
    /// runs in its ring.
    pub(crate) fn user_frame(&self, space: &AddressSpace, va: Vaddr) -> Option<Pfn> {
        let wanted = (EntryFlags::PRESENT | EntryFlags::WRITABLE).bits();
        let entry = self.leaf(space, va)?;
        if va.0 >> 47 != 0 || entry & wanted != wanted {
            return None;
        }
        self.platform.pfn(Mfn((entry & ENTRY_ADDRESS) >> 12))
    }
}
