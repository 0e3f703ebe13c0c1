//! Page tables in use: pinned, loaded, changed through the hypervisor, and unpinned again.

use super::unpinned::TABLE;
use super::{Error, Leaf, Mmu, UnpinnedTables};
use crate::addr::{Index, Level, Pfn, Vaddr, index_at};
use crate::hypercall::Errno;
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::{
    ENTRY_ADDRESS, EntryFlags, MmuUpdate, MmuextCmd, MmuextOp, UVMF_ALL, UVMF_INVLPG, UVMF_NONE,
};

/// Flags of a frame's home mapping while it is a page table.
const DIRECT_MAP_RO: u64 = EntryFlags::PRESENT.union(EntryFlags::ACCESSED).bits();
/// Flags of a frame's home mapping otherwise.
pub(super) const DIRECT_MAP_RW: u64 =
    DIRECT_MAP_RO | EntryFlags::WRITABLE.union(EntryFlags::DIRTY).bits();

/// A pinned tree.
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Mmu::unpin"]
pub struct AddressSpace {
    pub(super) tables: Vec<Pfn>,
    pub(super) level: u8,
}

impl AddressSpace {
    /// The frame of the root table.
    pub fn root(&self) -> Pfn {
        self.tables[0]
    }

    /// The frames of all tables, the root's first.
    pub fn frames(&self) -> &[Pfn] {
        &self.tables
    }
}

fn pin_op(level: u8, mfn: u64) -> MmuextOp {
    let cmd = MmuextCmd::PinL1Table as u32 + u32::from(level) - 1;
    MmuextOp { cmd, pad: 0, arg1: mfn, arg2: 0 }
}

impl<P: Platform> Mmu<P> {
    /// Pins a tree: its lazy mappings are dealt with, its homes become read-only, its root is
    /// pinned.
    ///
    /// # Errors
    ///
    /// The tree comes back as it was, with the reason.
    pub fn pin(&mut self, tree: UnpinnedTables) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        match self.before_pin(&tree.tables) {
            Ok(()) => self.pin_now(tree),
            Err(error) => Err((tree, error)),
        }
    }

    /// Pins what is ready to be pinned.
    pub(super) fn pin_now(
        &mut self,
        tree: UnpinnedTables,
    ) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        if let Err(errno) = self.set_direct_map_prot(&tree.tables, DIRECT_MAP_RO, UVMF_NONE) {
            return Err((tree, errno.into()));
        }
        let op = pin_op(tree.level, self.platform.mfn(tree.tables[0]).0);
        let pinned = self.platform.mmuext_op(&[op]);
        self.note_upcall_clears();
        match pinned {
            Ok(()) => {
                self.stats.pins += 1;
                self.stats.tables += tree.tables.len() as u64;
                self.note_in_use(&tree.tables, true);
                Ok(AddressSpace { tables: tree.tables, level: tree.level })
            }
            Err(errno) => {
                self.stats.refused += 1;
                // The frames are no tables, so that nothing is in the way of this.
                let _ =
                    self.set_direct_map_prot(&tree.tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL);
                Err((tree, errno.into()))
            }
        }
    }

    /// Unpins a space that is not loaded.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal, with the space: it is loaded, or a part of it is in use.
    pub fn unpin(&mut self, space: AddressSpace) -> Result<UnpinnedTables, (AddressSpace, Error)> {
        let cmd = MmuextCmd::UnpinTable as u32;
        let arg1 = self.platform.mfn(space.tables[0]).0;
        let unpin = MmuextOp { cmd, pad: 0, arg1, arg2: 0 };
        let result = self.platform.mmuext_op(&[unpin]).and_then(|()| {
            self.set_direct_map_prot(&space.tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL)
        });
        match result {
            Ok(()) => {
                self.stats.unpins += 1;
                self.note_in_use(&space.tables, false);
                Ok(UnpinnedTables { tables: space.tables, level: space.level })
            }
            Err(errno) => Err((space, errno.into())),
        }
    }

    /// Maps an address of a space whose tables lead there, or (with `None`) unmaps it. The TLB is
    /// the caller's business: see [`flush`](Mmu::flush).
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] without a table for the address, or the hypervisor's refusal.
    pub fn set_leaf(
        &mut self,
        space: &AddressSpace,
        va: Vaddr,
        leaf: Option<Leaf>,
    ) -> Result<(), Error> {
        let table = self.leaf_table(space, va).ok_or(Error::NoRoom)?;
        let val = leaf.map_or(0, |leaf| self.leaf_entry(leaf));
        let ptr = self.platform.mfn(table).entry_address(va.index(Level::L1));
        self.platform.mmu_update(&[MmuUpdate { ptr, val }])?;
        match leaf {
            Some(leaf) => self.note_mapped(MmuUpdate { ptr, val }, leaf.frame, va),
            None => self.note_unmapped(ptr),
        }
        Ok(())
    }

    /// The entry that maps an address of a space, if its tables lead there.
    pub fn leaf(&self, space: &AddressSpace, va: Vaddr) -> Option<u64> {
        Some(self.read(self.leaf_table(space, va)?, va.index(Level::L1).get()))
    }

    fn leaf_table(&self, space: &AddressSpace, va: Vaddr) -> Option<Pfn> {
        self.table_of(space, va, 1)
    }

    /// The table of this level for an address of a space, if its tables lead there.
    pub(super) fn table_of(&self, space: &AddressSpace, va: Vaddr, level: u8) -> Option<Pfn> {
        if level > space.level {
            return None;
        }
        let mut table = space.tables[0];
        for level in (level + 1..=space.level).rev() {
            let entry = self.read(table, index_at(va, level));
            let mfn = (entry & ENTRY_ADDRESS) >> 12;
            let mut below = space.tables.iter().copied();
            table = below.find(|&pfn| {
                entry & EntryFlags::PRESENT.bits() != 0 && self.platform.mfn(pfn).0 == mfn
            })?;
        }
        Some(table)
    }

    /// Hangs a tree below an entry of a space's root, which is one level higher: the tables are
    /// in use from then on, as if pinned with it.
    ///
    /// # Errors
    ///
    /// The tree comes back as it was, with the reason.
    ///
    /// # Panics
    ///
    /// If the levels do not fit.
    pub fn link_subtree(
        &mut self,
        space: &mut AddressSpace,
        index: usize,
        tree: UnpinnedTables,
    ) -> Result<(), (UnpinnedTables, Error)> {
        assert_eq!(tree.level + 1, space.level, "a table holds tables of the level below");
        if let Err(error) = self.link(space.tables[0], index, &tree) {
            return Err((tree, error));
        }
        space.tables.extend(tree.tables);
        Ok(())
    }

    /// Makes an entry of a live table lead to a tree.
    pub(super) fn link(
        &mut self,
        parent: Pfn,
        index: usize,
        tree: &UnpinnedTables,
    ) -> Result<(), Error> {
        self.before_pin(&tree.tables)?;
        self.set_direct_map_prot(&tree.tables, DIRECT_MAP_RO, UVMF_NONE)?;
        let ptr = self.platform.mfn(parent).entry_address(Index::new(index));
        let val = self.platform.mfn(tree.tables[0]).address() | TABLE.bits();
        let linked = self.platform.mmu_update(&[MmuUpdate { ptr, val }]);
        if linked.is_err() {
            // As in `pin_now`.
            let _ = self.set_direct_map_prot(&tree.tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL);
        } else {
            self.note_in_use(&tree.tables, true);
        }
        Ok(linked?)
    }

    /// Makes the kernel run on a space, and says which root it ran on before.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal; the old root stays loaded.
    ///
    /// # Safety
    ///
    /// The space must be of [`alloc_root`](Mmu::alloc_root), with the kernel's part unchanged.
    pub unsafe fn activate(&mut self, root: Pfn) -> Result<Pfn, Error> {
        let before = self.platform.root();
        let arg1 = self.platform.mfn(root).0;
        let cmd = MmuextCmd::NewBaseptr as u32;
        self.platform.mmuext_op(&[MmuextOp { cmd, pad: 0, arg1, arg2: 0 }])?;
        self.platform.set_root(root);
        Ok(before)
    }

    /// Makes a space what guest user mode runs on; `None` takes it away.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn set_user_root(&mut self, space: Option<&AddressSpace>) -> Result<(), Error> {
        let arg1 = space.map_or(0, |space| self.platform.mfn(space.root()).0);
        let cmd = MmuextCmd::NewUserBaseptr as u32;
        Ok(self.platform.mmuext_op(&[MmuextOp { cmd, pad: 0, arg1, arg2: 0 }])?)
    }

    /// Flushes the whole TLB of every vCPU of the guest.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.stats.flushes += 1;
        let cmd = MmuextCmd::TlbFlushAll as u32;
        Ok(self.platform.mmuext_op(&[MmuextOp { cmd, ..MmuextOp::default() }])?)
    }

    pub(super) fn set_direct_map_prot(
        &mut self,
        frames: &[Pfn],
        flags: u64,
        flush: u64,
    ) -> Result<(), Errno> {
        let homes: Vec<_> = frames
            .iter()
            .map(|&pfn| {
                (self.platform.direct_map_va(pfn), self.platform.mfn(pfn).address() | flags)
            })
            .collect();
        self.platform.update_va_mappings(&homes, flush)
    }
}
