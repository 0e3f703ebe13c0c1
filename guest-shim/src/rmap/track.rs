//! Keeping the map: what the rest of the shim tells it.

use super::{Mapping, Rmap};
use crate::addr::{Pfn, Vaddr};
use crate::mmu::{Error, Leaf, Mmu};
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::MmuUpdate;
use pinfold_abi::pinfold::Range;

impl<P: Platform> Mmu<P> {
    /// Keeps a reverse map from now on; dead mappings are cleared first. To be called while there
    /// is no tree and no space: those that exist are not known to it.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of clearing.
    pub fn enable_rmap(&mut self) -> Result<(), Error> {
        self.purge_vmap()?;
        self.purge_kmap()?;
        self.rmap = Some(Rmap::default());
        let mapped: Vec<_> = self.vmap.live_pages().chain(self.kmap.mapped()).collect();
        for (va, frame) in mapped {
            let val = self.leaf_entry(Leaf::kernel(frame));
            if let Some(ptr) = self.window_entry(va) {
                self.note_mapped(MmuUpdate { ptr, val }, frame, va);
            }
        }
        Ok(())
    }

    /// Keeps no reverse map any more.
    pub fn disable_rmap(&mut self) {
        self.rmap = None;
    }

    /// Machine address of the entry that maps an address of the vmap or kmap range.
    pub(crate) fn window_entry(&self, va: Vaddr) -> Option<u64> {
        let window = [self.vmap.window(), self.kmap.window()];
        Some(window.into_iter().find(|window| window.contains(va))?.entry_addr(va))
    }

    /// An entry maps this frame from now on.
    pub(crate) fn note_mapped(&mut self, update: MmuUpdate, frame: Pfn, va: Vaddr) {
        if let Some(rmap) = &mut self.rmap {
            rmap.set(Mapping { ptr: update.ptr, frame, va, entry: update.val });
        }
    }

    /// An entry maps nothing any more.
    pub(crate) fn note_unmapped(&mut self, ptr: u64) {
        if let Some(rmap) = &mut self.rmap {
            rmap.clear(ptr);
        }
    }

    /// Pages of the vmap and kmap ranges were cleared.
    pub(crate) fn note_cleared(&mut self, ranges: &[Range]) {
        if self.rmap.is_none() {
            return;
        }
        for range in ranges {
            for page in 0..range.pages {
                if let Some(ptr) = self.window_entry(Vaddr(range.start).page(page)) {
                    self.note_unmapped(ptr);
                }
            }
        }
    }

    /// Tables are in use from now on, or not.
    pub(crate) fn note_in_use(&mut self, tables: &[Pfn], in_use: bool) {
        if let Some(rmap) = &mut self.rmap {
            rmap.set_in_use(tables.iter().map(|&pfn| self.platform.mfn(pfn).address()), in_use);
        }
    }

    /// Tables are no tables any more.
    pub(crate) fn note_dropped(&mut self, tables: &[Pfn]) {
        if let Some(rmap) = &mut self.rmap {
            rmap.drop_tables(tables.iter().map(|&pfn| self.platform.mfn(pfn).address()));
        }
    }
}
