//! Writes entries through the hypervisor, and records what they map.

use super::window::MappedWindow;
use super::{Entries, Leaf, Window};
use crate::addr::{Mfn, Pfn, Vaddr};
use crate::frames::{FramePool, MemoryTypes, TablePool};
use crate::hypercall::Errno;
use crate::platform::Platform;
use crate::rmap::{Mapping, Rmap};
use crate::stats::Stats;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::mmu::{MmuUpdate, MmuextCmd, MmuextOp, UVMF_ALL, UVMF_INVLPG};
use pinfold_abi::pinfold::{MAX_SHOOTDOWN_RANGES, Range};

/// The machine, and what must be known to write entries in it.
#[derive(Debug)]
pub(crate) struct EntryWriter<P> {
    pub(crate) platform: P,
    pub(crate) frames: FramePool,
    pub(crate) table_pool: TablePool,
    pub(crate) memory_types: MemoryTypes,
    /// Where each frame is mapped, if the kernel asked for that.
    pub(crate) rmap: Option<Rmap>,
    pub(crate) stats: Stats,
    windows: Vec<MappedWindow>,
}

impl<P: Platform> EntryWriter<P> {
    pub(crate) fn new(platform: P, frames: FramePool) -> EntryWriter<P> {
        EntryWriter {
            platform,
            frames,
            table_pool: TablePool::default(),
            memory_types: MemoryTypes::default(),
            rmap: None,
            stats: Stats::default(),
            windows: Vec::new(),
        }
    }

    /// Adds a window that these tables translate, one for each 512 pages.
    pub(crate) fn add_window(&mut self, window: Window, leaf_tables: Vec<Mfn>) {
        self.windows.push(MappedWindow { window, leaf_tables });
    }

    /// The entry that maps a frame with the frame's memory type. Every writable entry is made here;
    /// the frame loses its clean mark.
    ///
    /// # Panics
    ///
    /// If the entry is writable and the frame was not allocated here: the kernel's own image must
    /// not be mapped this way.
    pub(crate) fn leaf_entry(&mut self, leaf: Leaf) -> u64 {
        let Leaf { frame, writable, .. } = leaf;
        if writable {
            assert!(self.frames.covers(frame), "frame {frame} is not for data");
            self.table_pool.mark_mapped(frame);
        }
        let memory = self.memory_types.get(frame).flags();
        self.platform.mfn(frame).address() | leaf.flags().bits() | memory.bits()
    }

    /// Machine address of the entry of an address in a window.
    pub(crate) fn window_entry(&self, va: Vaddr) -> Option<u64> {
        let found = |mapped: &MappedWindow| Some(mapped.entry_addr(mapped.window.page(va)?));
        self.windows.iter().find_map(found)
    }

    /// Records in the reverse map that an entry maps a frame.
    pub(crate) fn note_mapped(&mut self, update: MmuUpdate, frame: Pfn, va: Vaddr) {
        if let Some(rmap) = &mut self.rmap {
            rmap.set(Mapping { ptr: update.ptr, frame, va, entry: update.val });
        }
    }

    /// Records in the reverse map that an entry maps nothing.
    pub(crate) fn note_unmapped(&mut self, ptr: u64) {
        if let Some(rmap) = &mut self.rmap {
            rmap.clear(ptr);
        }
    }

    /// Records in the reverse map that a page of a window maps nothing.
    pub(crate) fn note_page_cleared(&mut self, va: Vaddr) {
        if self.rmap.is_some()
            && let Some(ptr) = self.window_entry(va)
        {
            self.note_unmapped(ptr);
        }
    }

    /// Records in the reverse map that tables are in use from now on, or no more.
    pub(crate) fn note_in_use(&mut self, tables: &[Pfn], in_use: bool) {
        if let Some(rmap) = &mut self.rmap {
            rmap.set_in_use(tables.iter().map(|&pfn| self.platform.mfn(pfn).address()), in_use);
        }
    }

    /// Removes the entries of freed tables from the reverse map.
    pub(crate) fn note_tables_freed(&mut self, tables: &[Pfn]) {
        if let Some(rmap) = &mut self.rmap {
            rmap.drop_tables(tables.iter().map(|&pfn| self.platform.mfn(pfn).address()));
        }
    }

    /// Flushes the whole TLB of every vCPU.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        self.stats.flushes += 1;
        let cmd = MmuextCmd::TlbFlushAll as u32;
        self.platform.mmuext_op(&[MmuextOp { cmd, ..MmuextOp::default() }])
    }

    /// Clears ranges where the hypervisor has no shootdown.
    fn clear_and_flush(&mut self, ranges: &[Range]) -> Result<u64, Errno> {
        let updates: Vec<_> = ranges
            .iter()
            .flat_map(|range| (0..range.pages).map(|page| Vaddr(range.start).page(page)))
            .filter_map(|va| Some(MmuUpdate { ptr: self.window_entry(va)?, val: 0 }))
            .collect();
        self.platform.mmu_update(&updates)?;
        self.flush()?;
        Ok(updates.len() as u64)
    }
}

impl<P: Platform> Entries for EntryWriter<P> {
    fn map(&mut self, start: Vaddr, frames: &[Pfn]) -> Result<(), Errno> {
        let values: Vec<u64> =
            frames.iter().map(|&frame| self.leaf_entry(Leaf::kernel(frame))).collect();
        let found = self.windows.iter().find_map(|w| Some((w, w.window.page(start)?)));
        let (window, first) = found.expect("the pages are in a window");
        let updates: Vec<MmuUpdate> = (first..)
            .zip(values)
            .map(|(page, val)| MmuUpdate { ptr: window.entry_addr(page), val })
            .collect();
        for (page, (&update, &frame)) in (0..).zip(updates.iter().zip(frames)) {
            self.note_mapped(update, frame, start.page(page));
        }
        self.platform.mmu_update(&updates)
    }

    fn replace(&mut self, page: Vaddr, frame: Pfn) -> Result<(), Errno> {
        let val = self.leaf_entry(Leaf::kernel(frame));
        self.platform.update_va_mappings(&[(page, val)], UVMF_INVLPG | UVMF_ALL)?;
        if let Some(ptr) = self.window_entry(page) {
            self.note_mapped(MmuUpdate { ptr, val }, frame, page);
        }
        Ok(())
    }

    fn clear_pages(&mut self, pages: &[Vaddr]) -> Result<(), Errno> {
        let entries: Vec<_> = pages.iter().map(|&page| (page, 0)).collect();
        self.platform.update_va_mappings(&entries, UVMF_INVLPG | UVMF_ALL)?;
        for &page in pages {
            self.note_page_cleared(page);
        }
        Ok(())
    }

    fn clear_ranges(&mut self, ranges: &[Range]) -> Result<u64, Errno> {
        let mut cleared = 0;
        for some in ranges.chunks(MAX_SHOOTDOWN_RANGES as usize) {
            cleared += match self.platform.shootdown(some) {
                Ok(done) => {
                    self.stats.flushes += u64::from(done.flushed);
                    done.cleared
                }
                Err(errno) if errno == Known::ENOSYS => self.clear_and_flush(some)?,
                Err(errno) => return Err(errno),
            };
            if self.rmap.is_some() {
                for range in some {
                    for page in 0..range.pages {
                        self.note_page_cleared(Vaddr(range.start).page(page));
                    }
                }
            }
            self.stats.shootdowns += 1;
        }
        Ok(cleared)
    }

    fn free_deferred(&mut self, frame: Pfn) {
        self.frames.free_deferred(frame);
    }

    fn name_range(&mut self, range: Range, name: &str, freed: &[AtomicU64]) {
        // Names and bits serve reports: a hypervisor without them is as good.
        let _ = self.platform.name_region(range, name);
        let _ = self.platform.freed_map(Vaddr(range.start), freed);
    }

    fn forget_name(&mut self, start: Vaddr) {
        // As above.
        let _ = self.platform.forget_region(start);
    }

    fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }
}
