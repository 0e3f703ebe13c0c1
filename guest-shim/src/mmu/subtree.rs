//! Whole tables linked into an address space that is in use, and unlinked again: many pages with
//! one call.

use super::address_space::DIRECT_MAP_RW;
use super::{AddressSpace, Error, Mmu, UnpinnedTables};
use crate::addr::{Level, Mfn, Pfn, Vaddr, index_at, is_lower_half};
use crate::platform::Platform;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags, MmuUpdate, UVMF_ALL, UVMF_INVLPG};

impl<P: Platform> Mmu<P> {
    /// Links page tables below an entry of the root of an address space, whose level is one higher.
    /// They are in use from then on, as if pinned with it.
    ///
    /// # Errors
    ///
    /// The tables come back as they were, with the reason.
    ///
    /// # Panics
    ///
    /// If the levels do not fit.
    pub fn link_subtree(
        &mut self,
        space: &mut AddressSpace,
        index: usize,
        tables: UnpinnedTables,
    ) -> Result<(), (UnpinnedTables, Error)> {
        assert_eq!(tables.level + 1, space.level, "a table holds tables of the level below");
        match self.link(space.root(), index, &tables) {
            Ok(()) => {
                space.tables.extend(tables.tables);
                Ok(())
            }
            Err(error) => Err((tables, error)),
        }
    }

    /// Makes the tables above the leaf table of an address, for
    /// [`link_subtree_at`](Mmu::link_subtree_at).
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`]; tables made until then stay.
    ///
    /// # Panics
    ///
    /// If `tables` is a leaf table.
    pub fn alloc_intermediate_tables(
        &mut self,
        tables: &mut UnpinnedTables,
        va: Vaddr,
    ) -> Result<(), Error> {
        assert!(tables.level > 1, "a leaf table has no table below it");
        self.table_in(tables, va, 2).map(drop)
    }

    /// Links page tables where an address space has a table for the entry above. They are in use
    /// from then on, as if pinned with it.
    ///
    /// # Errors
    ///
    /// The tables come back as they were, with the reason: [`Error::NoRoom`] if the table above is
    /// missing or its entry is in use; what a pin would have returned; or the hypervisor's refusal.
    pub fn link_subtree_at(
        &mut self,
        space: &mut AddressSpace,
        va: Vaddr,
        tables: UnpinnedTables,
    ) -> Result<(), (UnpinnedTables, Error)> {
        let above = tables.level + 1;
        let Some(parent) = self.table_of(space, va, above) else {
            return Err((tables, Error::NoRoom));
        };
        let index = index_at(va, above);
        if self.read(parent, index) & EntryFlags::PRESENT.bits() != 0 {
            return Err((tables, Error::NoRoom));
        }
        match self.link(parent, index, &tables) {
            Ok(()) => {
                space.tables.extend(tables.tables);
                Ok(())
            }
            Err(error) => Err((tables, error)),
        }
    }

    /// Unlinks the leaf table of an address, with all that it maps, and flushes.
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
        let ptr = self.mfn(parent).entry_address(va.index(Level::L2));
        self.entries.platform.mmu_update(&[MmuUpdate { ptr, val: 0 }])?;
        // It is no table any more, whatever fails from here on.
        space.tables.retain(|&other| other != table);
        self.entries.note_in_use(&[table], false);
        self.flush()?;
        self.set_direct_map_prot(&[table], DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL)?;
        Ok(UnpinnedTables { tables: alloc::vec![table], level: 1 })
    }

    /// The frame that an address of the lower half maps writable. The entry does not say whether
    /// user mode may use it: the guest kernel runs in the same ring, and the hypervisor sets the
    /// USER flag of every page.
    pub(crate) fn writable_user_frame(&self, space: &AddressSpace, va: Vaddr) -> Option<Pfn> {
        let wanted = (EntryFlags::PRESENT | EntryFlags::WRITABLE).bits();
        let entry = self.leaf(space, va)?;
        if !is_lower_half(va) || entry & wanted != wanted {
            return None;
        }
        self.entries.platform.pfn(Mfn::from_address(entry & ENTRY_ADDRESS))
    }
}
