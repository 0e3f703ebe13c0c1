//! The guest's memory as the domain builder left it: where pseudo-physical frames are in machine
//! memory and in the initial address space.

use super::boot::{Boot, VIRT_BASE};
use super::catch;
use crate::addr::{Mfn, PAGE_SIZE, Pfn, TABLE_ENTRIES, Vaddr, index_at, word_of};
use pinfold_abi::layout::{INVALID_M2P_ENTRY, M2P_START};
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};
use pinfold_abi::start_info::StartInfo;

/// Frames that the direct map can have: what the builder's one L2 table translates, a gigabyte.
/// Others are not used.
const WINDOW_PAGES: u64 = (TABLE_ENTRIES * TABLE_ENTRIES) as u64;

/// Where frames are. Pfn n is at [`VIRT_BASE`] + n pages, once that address is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    info: &'static StartInfo,
}

impl Frames {
    /// The frames of this guest.
    pub fn new(boot: &Boot) -> Frames {
        Frames { info: boot.start_info() }
    }

    /// Number of frames: pfns are 0 to one less.
    pub fn count(&self) -> u64 {
        self.info.nr_pages.min(WINDOW_PAGES)
    }

    /// Where the direct map has, or will have, a pfn.
    pub fn va(&self, pfn: Pfn) -> Vaddr {
        Vaddr(VIRT_BASE).page(pfn.0)
    }

    /// The pfn that an address of the direct map belongs to.
    pub fn pfn_at(&self, va: Vaddr) -> Option<Pfn> {
        let pfn = va.0.checked_sub(VIRT_BASE)? / PAGE_SIZE;
        (pfn < self.count()).then_some(Pfn(pfn))
    }

    /// The machine frame of a pfn, from the list that the builder made.
    pub fn mfn(&self, pfn: Pfn) -> Option<Mfn> {
        if pfn.0 >= self.count() {
            return None;
        }
        let list = self.info.mfn_list as *const u64;
        // SAFETY: the list has `nr_pages` words and is mapped for as long as the guest runs;
        // nothing in this crate writes it.
        Some(Mfn(unsafe { list.add(pfn.0 as usize).read_volatile() }))
    }

    /// The pfn of a machine frame of this guest, from the machine-to-physical table.
    pub fn pfn(&self, mfn: Mfn) -> Option<Pfn> {
        let entry = M2P_START.checked_add(mfn.0.checked_mul(8)?)?;
        if entry >= pinfold_abi::layout::M2P_END {
            return None;
        }
        // SAFETY: the table is read-only memory of the hypervisor, where it is mapped at all.
        let pfn = unsafe { catch::read(entry) }.ok()?;
        (pfn != INVALID_M2P_ENTRY && self.mfn(Pfn(pfn)) == Some(mfn)).then_some(Pfn(pfn))
    }

    /// The first pfn that the builder did not use: all from here on are free.
    pub fn first_free(&self) -> Pfn {
        let after_tables = self.info.pt_base - VIRT_BASE + self.info.nr_pt_frames * PAGE_SIZE;
        // One page of boot stack follows the tables.
        Pfn(after_tables / PAGE_SIZE + 1)
    }

    /// The boot root table.
    pub fn boot_root(&self) -> Mfn {
        let pfn = self.pfn_at(Vaddr(self.info.pt_base)).unwrap_or_default();
        self.mfn(pfn).unwrap_or_default()
    }

    /// One entry of a table, read through the direct map.
    pub fn entry(&self, table: Mfn, index: usize) -> Option<u64> {
        let va = self.va(self.pfn(table)?);
        // SAFETY: reading a frame of the guest is harmless; it may not be mapped.
        unsafe { catch::read(word_of(va, index).0) }.ok()
    }

    /// The table of this level that translates an address below a root, and its entry; `None` when
    /// an entry above is not present.
    pub fn walk(&self, root: Mfn, va: Vaddr, level: u8) -> Option<(Mfn, u64)> {
        let mut table = root;
        for step in (level..=4).rev() {
            let entry = self.entry(table, index_at(va, step))?;
            if step == level {
                return Some((table, entry));
            }
            if entry & EntryFlags::PRESENT.bits() == 0 {
                return None;
            }
            table = Mfn::from_address(entry & ENTRY_ADDRESS);
        }
        None
    }

    /// The first pfn that the builder's direct map does not have.
    pub fn mapped_end(&self) -> Pfn {
        let root = self.boot_root();
        let mapped = |pfn: u64| {
            let leaf = self.walk(root, self.va(Pfn(pfn)), 1);
            leaf.is_some_and(|(_, entry)| entry & EntryFlags::PRESENT.bits() != 0)
        };
        let first = self.first_free().0;
        Pfn((first..self.count()).find(|&pfn| !mapped(pfn)).unwrap_or(self.count()))
    }
}
