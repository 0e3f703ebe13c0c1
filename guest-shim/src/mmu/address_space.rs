//! Page tables in use: pinned, loaded, changed through the hypervisor, and unpinned again.
#![expect(unsafe_code, reason = "loading a root changes what every address means")]

use super::unpinned::TABLE;
use super::{Error, Leaf, Mmu, UnpinnedTables};
use crate::addr::{Index, Level, Mfn, Pfn, Vaddr, index_at};
use crate::hypercall::Errno;
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::{
    ENTRY_ADDRESS, EntryFlags, MmuUpdate, MmuextCmd, MmuextOp, UVMF_ALL, UVMF_INVLPG, UVMF_NONE,
};

/// Flags of a page table's entry in the direct map.
const DIRECT_MAP_RO: u64 = EntryFlags::PRESENT.union(EntryFlags::ACCESSED).bits();
/// Flags of any other frame's entry in the direct map.
pub(super) const DIRECT_MAP_RW: u64 =
    DIRECT_MAP_RO | EntryFlags::WRITABLE.union(EntryFlags::DIRTY).bits();

/// Pinned page tables: a table and all tables below it, in use.
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Mmu::unpin"]
pub struct AddressSpace {
    /// The root first.
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

/// The operation that pins a table of this level.
fn pin_op(level: u8, table: Mfn) -> MmuextOp {
    let cmd = MmuextCmd::PinL1Table as u32 + u32::from(level) - 1;
    MmuextOp { cmd, pad: 0, arg1: table.0, arg2: 0 }
}

/// An operation on one frame, or on none (0).
fn frame_op(cmd: MmuextCmd, frame: Mfn) -> MmuextOp {
    MmuextOp { cmd: cmd as u32, pad: 0, arg1: frame.0, arg2: 0 }
}

impl<P: Platform> Mmu<P> {
    /// Pins page tables: clears the lazy mappings of their frames, makes them read-only in the
    /// direct map, and pins the root.
    ///
    /// # Errors
    ///
    /// The tables come back as they were, with the reason.
    pub fn pin(&mut self, tables: UnpinnedTables) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        match self.before_pin(&tables.tables) {
            Ok(()) => self.pin_now(tables),
            Err(error) => Err((tables, error)),
        }
    }

    /// Pins page tables without clearing lazy mappings.
    pub(super) fn pin_now(
        &mut self,
        tables: UnpinnedTables,
    ) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        let UnpinnedTables { tables, level } = tables;
        if let Err(errno) = self.set_direct_map_prot(&tables, DIRECT_MAP_RO, UVMF_NONE) {
            return Err((UnpinnedTables { tables, level }, errno.into()));
        }
        let op = pin_op(level, self.mfn(tables[0]));
        let pinned = self.entries.platform.mmuext_op(&[op]);
        self.note_upcall_clears();
        match pinned {
            Ok(()) => {
                self.entries.stats.pins += 1;
                self.entries.stats.tables += tables.len() as u64;
                self.entries.note_in_use(&tables, true);
                Ok(AddressSpace { tables, level })
            }
            Err(errno) => {
                self.entries.stats.refused += 1;
                // This can't be refused: the frames are no page tables.
                let _ = self.set_direct_map_prot(&tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL);
                Err((UnpinnedTables { tables, level }, errno.into()))
            }
        }
    }

    /// Unpins page tables that are not loaded.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal, with the address space: it is loaded, or a part of it is in use.
    pub fn unpin(&mut self, space: AddressSpace) -> Result<UnpinnedTables, (AddressSpace, Error)> {
        let op = frame_op(MmuextCmd::UnpinTable, self.mfn(space.root()));
        let unpinned = self.entries.platform.mmuext_op(&[op]).and_then(|()| {
            self.set_direct_map_prot(&space.tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL)
        });
        match unpinned {
            Ok(()) => {
                self.entries.stats.unpins += 1;
                self.entries.note_in_use(&space.tables, false);
                Ok(UnpinnedTables { tables: space.tables, level: space.level })
            }
            Err(errno) => Err((space, errno.into())),
        }
    }

    /// Maps an address of an address space that has a leaf table for it, or unmaps it (`None`). The
    /// TLB is not flushed: see [`flush`](Mmu::flush).
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] without a leaf table for the address, or the hypervisor's refusal.
    pub fn set_leaf(
        &mut self,
        space: &AddressSpace,
        va: Vaddr,
        leaf: Option<Leaf>,
    ) -> Result<(), Error> {
        let table = self.leaf_table(space, va).ok_or(Error::NoRoom)?;
        let val = leaf.map_or(0, |leaf| self.entries.leaf_entry(leaf));
        let ptr = self.mfn(table).entry_address(va.index(Level::L1));
        self.entries.platform.mmu_update(&[MmuUpdate { ptr, val }])?;
        match leaf {
            Some(leaf) => self.entries.note_mapped(MmuUpdate { ptr, val }, leaf.frame, va),
            None => self.entries.note_unmapped(ptr),
        }
        Ok(())
    }

    /// The leaf entry of an address, if the address space has a leaf table for it.
    pub fn leaf(&self, space: &AddressSpace, va: Vaddr) -> Option<u64> {
        Some(self.read(self.leaf_table(space, va)?, va.index(Level::L1).get()))
    }

    fn leaf_table(&self, space: &AddressSpace, va: Vaddr) -> Option<Pfn> {
        self.table_of(space, va, 1)
    }

    /// The table of this level that translates an address, if the address space has one.
    pub(super) fn table_of(&self, space: &AddressSpace, va: Vaddr, level: u8) -> Option<Pfn> {
        if level > space.level {
            return None;
        }
        let mut table = space.root();
        for level in (level + 1..=space.level).rev() {
            table = self.table_below(&space.tables, self.read(table, index_at(va, level)))?;
        }
        Some(table)
    }

    /// Which of these tables an entry points to.
    pub(super) fn table_below(&self, tables: &[Pfn], entry: u64) -> Option<Pfn> {
        if entry & EntryFlags::PRESENT.bits() == 0 {
            return None;
        }
        let mfn = Mfn::from_address(entry & ENTRY_ADDRESS);
        tables.iter().copied().find(|&pfn| self.mfn(pfn) == mfn)
    }

    /// Makes an entry of a live table point to page tables, after clearing the lazy mappings of
    /// their frames.
    pub(super) fn link(
        &mut self,
        parent: Pfn,
        index: usize,
        tables: &UnpinnedTables,
    ) -> Result<(), Error> {
        self.before_pin(&tables.tables)?;
        self.set_direct_map_prot(&tables.tables, DIRECT_MAP_RO, UVMF_NONE)?;
        let ptr = self.mfn(parent).entry_address(Index::new(index));
        let val = self.mfn(tables.root()).address() | TABLE.bits();
        let linked = self.entries.platform.mmu_update(&[MmuUpdate { ptr, val }]);
        if linked.is_err() {
            // As in `pin_now`.
            let _ = self.set_direct_map_prot(&tables.tables, DIRECT_MAP_RW, UVMF_INVLPG | UVMF_ALL);
        } else {
            self.entries.note_in_use(&tables.tables, true);
        }
        Ok(linked?)
    }

    /// Loads a root table for the kernel. Returns the root that was loaded before.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal; the old root stays loaded.
    ///
    /// # Safety
    ///
    /// The root must be one of [`alloc_root`](Mmu::alloc_root), with the kernel's part unchanged.
    pub unsafe fn activate(&mut self, root: Pfn) -> Result<Pfn, Error> {
        let before = self.entries.platform.root();
        let op = frame_op(MmuextCmd::NewBaseptr, self.mfn(root));
        self.entries.platform.mmuext_op(&[op])?;
        self.entries.platform.set_root(root);
        Ok(before)
    }

    /// Sets the address space that guest user mode runs in, or none.
    /// For kernels in ring 3: in the container one root serves kernel and user mode, and this is
    /// refused with -ENOSYS.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn set_user_root(&mut self, space: Option<&AddressSpace>) -> Result<(), Error> {
        let root = space.map_or(Mfn(0), |space| self.mfn(space.root()));
        Ok(self.entries.platform.mmuext_op(&[frame_op(MmuextCmd::NewUserBaseptr, root)])?)
    }

    /// Flushes the whole TLB of every vCPU.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.entries.flush()?)
    }

    /// Maps frames in the direct map with other flags.
    pub(super) fn set_direct_map_prot(
        &mut self,
        frames: &[Pfn],
        flags: u64,
        flush: u64,
    ) -> Result<(), Errno> {
        let platform = &mut self.entries.platform;
        let entries: Vec<_> = frames
            .iter()
            .map(|&pfn| (platform.direct_map_va(pfn), platform.mfn(pfn).address() | flags))
            .collect();
        platform.update_va_mappings(&entries, flush)
    }
}
