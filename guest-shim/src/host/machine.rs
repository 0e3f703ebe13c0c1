//! The machine.

use super::tables::Memory;
use crate::addr::{Level, Mfn, PAGE_SIZE, Pfn, TABLE_ENTRIES, Vaddr};
use crate::hypercall::Errno;
use crate::platform::{Platform, ShootdownResult};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range as CoreRange;
use core::sync::atomic::AtomicU64;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate, MmuextCmd, MmuextOp};
use pinfold_abi::pinfold::{MAPPING_ATTACHED, MAPPING_WRITABLE, Mapping, Range};

/// First address of the direct map.
const DIRECT_MAP: Vaddr = Vaddr(0xffff_ffff_8000_0000);
/// Frames of the L4, L3 and L2 table that the machine starts with.
const ROOT: Pfn = Pfn(0);
const L3: Pfn = Pfn(1);
const L2: Pfn = Pfn(2);

/// A machine with one CPU and no TLB.
#[derive(Debug)]
pub struct Machine {
    memory: Memory,
    root: Pfn,
    /// The loaded root and all pinned tables.
    live: BTreeMap<Pfn, Level>,
    /// Frames that the machine's own tables are in.
    used: u64,
}

impl Machine {
    /// A machine with so many frames, at most a gigabyte, and a direct map of them.
    ///
    /// # Panics
    ///
    /// If there are too many frames, or too few for the tables.
    pub fn new(frames: u64) -> Machine {
        let per_table = TABLE_ENTRIES as u64;
        let used = 3 + frames.div_ceil(per_table);
        assert!(frames <= per_table * per_table && frames > used, "{frames} frames");
        let mut memory = Memory::new(frames);
        let (read_only, writable) =
            (EntryFlags::PRESENT, EntryFlags::PRESENT | EntryFlags::WRITABLE);
        let entry = |pfn, flags: EntryFlags| Memory::mfn(pfn).address() | flags.bits();
        *memory.word(ROOT, DIRECT_MAP.index(Level::L4).get()) = entry(L3, writable);
        *memory.word(L3, DIRECT_MAP.index(Level::L3).get()) = entry(L2, writable);
        for pfn in (0..frames).map(Pfn) {
            let va = DIRECT_MAP.page(pfn.0);
            let table = Pfn(3 + pfn.0 / per_table);
            *memory.word(L2, va.index(Level::L2).get()) = entry(table, writable);
            let flags = if pfn.0 < used { read_only } else { writable };
            *memory.word(table, va.index(Level::L1).get()) = entry(pfn, flags);
        }
        Machine { memory, root: ROOT, live: BTreeMap::from([(ROOT, Level::L4)]), used }
    }

    /// The frames that the machine's own tables are not in, for [`Mmu::new`](crate::mmu::Mmu::new).
    pub fn free_frames(&self) -> impl Iterator<Item = Pfn> + use<> {
        let free: CoreRange<u64> = self.used..self.memory.frames();
        free.map(Pfn)
    }

    /// The entry that translates an address: its table and index.
    fn entry_of(&self, va: Vaddr) -> Option<(Pfn, usize)> {
        let table = self.memory.leaf_table(self.root, va)?;
        Some((table, va.index(Level::L1).get()))
    }

    /// The frame that an address maps, and the word in it.
    fn translate(&self, va: Vaddr, flags: EntryFlags) -> (Pfn, usize) {
        let entry = self.entry_of(va).map(|(table, index)| self.memory.read(table, index));
        let entry = entry.filter(|entry| entry & flags.bits() == flags.bits());
        let Some(pfn) = entry.and_then(|entry| self.memory.target(entry)) else {
            panic!("page fault at {va}");
        };
        (pfn, va.page_offset() as usize / size_of::<u64>())
    }

    /// Writes an entry, unless that would make a live table writable.
    fn set_entry(&mut self, table: Pfn, index: usize, entry: u64) -> Result<(), Errno> {
        let before = core::mem::replace(self.memory.word(table, index), entry);
        if self.memory.is_valid(&self.live) {
            return Ok(());
        }
        *self.memory.word(table, index) = before;
        Err(Known::EINVAL.into())
    }

    fn pin(&mut self, table: Pfn, level: Level) -> Result<(), Errno> {
        if self.live.insert(table, level).is_some() {
            return Err(Known::EINVAL.into());
        }
        if self.memory.is_valid(&self.live) {
            return Ok(());
        }
        self.live.remove(&table);
        Err(Known::EINVAL.into())
    }
}

impl Platform for Machine {
    fn mfn(&self, pfn: Pfn) -> Mfn {
        Memory::mfn(pfn)
    }

    fn pfn(&self, mfn: Mfn) -> Option<Pfn> {
        self.memory.pfn(mfn)
    }

    fn direct_map_va(&self, pfn: Pfn) -> Vaddr {
        DIRECT_MAP.page(pfn.0)
    }

    fn root(&self) -> Pfn {
        self.root
    }

    fn set_root(&mut self, root: Pfn) {
        self.root = root;
    }

    fn load(&self, va: Vaddr) -> u64 {
        let (pfn, index) = self.translate(va, EntryFlags::PRESENT);
        self.memory.read(pfn, index)
    }

    fn store(&mut self, va: Vaddr, word: u64) {
        let (pfn, index) = self.translate(va, EntryFlags::PRESENT | EntryFlags::WRITABLE);
        *self.memory.word(pfn, index) = word;
    }

    fn mmu_update(&mut self, requests: &[MmuUpdate]) -> Result<(), Errno> {
        for request in requests {
            let table = self.memory.pfn(Mfn::from_address(request.ptr)).ok_or(Known::EINVAL)?;
            let index = (request.ptr % PAGE_SIZE) as usize / size_of::<u64>();
            self.set_entry(table, index, request.val)?;
        }
        Ok(())
    }

    fn mmuext_op(&mut self, ops: &[MmuextOp]) -> Result<(), Errno> {
        for op in ops {
            let table = self.memory.pfn(Mfn(op.arg1)).ok_or(Known::EINVAL);
            match op.cmd {
                cmd if cmd == MmuextCmd::UnpinTable as u32 => {
                    self.live.remove(&table?).ok_or(Known::EINVAL)?;
                }
                cmd if cmd == MmuextCmd::TlbFlushAll as u32 => {}
                cmd => {
                    let level = (cmd - MmuextCmd::PinL1Table as u32) + 1;
                    let level = Level::from_number(level.into()).ok_or(Known::ENOSYS)?;
                    self.pin(table?, level)?;
                }
            }
        }
        Ok(())
    }

    fn update_va_mappings(&mut self, entries: &[(Vaddr, u64)], _flags: u64) -> Result<(), Errno> {
        for &(va, entry) in entries {
            let (table, index) = self.entry_of(va).ok_or(Known::EINVAL)?;
            self.set_entry(table, index, entry)?;
        }
        Ok(())
    }

    fn shootdown(&mut self, ranges: &[Range]) -> Result<ShootdownResult, Errno> {
        let mut cleared = 0;
        for range in ranges {
            for page in 0..range.pages {
                let entry = self.entry_of(Vaddr(range.start).page(page));
                let (table, index) = entry.ok_or(Known::EINVAL)?;
                cleared += u64::from(self.memory.read(table, index) != 0);
                *self.memory.word(table, index) = 0;
            }
        }
        Ok(ShootdownResult { cleared, flushed: 1 })
    }

    fn name_region(&mut self, _range: Range, _name: &str) -> Result<(), Errno> {
        Ok(())
    }

    fn freed_map(&mut self, _start: Vaddr, _bits: &[AtomicU64]) -> Result<(), Errno> {
        Ok(())
    }

    fn forget_region(&mut self, _start: Vaddr) -> Result<(), Errno> {
        Ok(())
    }

    fn find_aliases(&mut self, frames: &[Mfn]) -> Result<Vec<Mapping>, Errno> {
        let (_, leaves) = self.memory.walk(&self.live);
        let mappings = leaves.iter().filter_map(|leaf| {
            let frame = Memory::mfn(self.memory.target(leaf.entry)?);
            let writable = leaf.entry & EntryFlags::WRITABLE.bits() != 0;
            let mapping = Mapping {
                frame: frame.0,
                va: leaf.va.0,
                table: Memory::mfn(leaf.table).0,
                entry: leaf.entry,
                index: leaf.index.get() as u16,
                flags: MAPPING_ATTACHED | if writable { MAPPING_WRITABLE } else { 0 },
                pad: 0,
            };
            frames.contains(&frame).then_some(mapping)
        });
        Ok(mappings.collect())
    }
}
