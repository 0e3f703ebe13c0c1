//! (feature `raw`) Mistakes that the rest of this module rules out, for tests of what finds them.

use super::{AddressSpace, Error, Mmu, UnpinnedTables};
use crate::addr::{Pfn, Vaddr};
use crate::frames::FrameSet;
use crate::platform::Platform;
use crate::rmap::Mapping;

/// A mapping that the reverse map does not have, as one made without the shim.
#[derive(Debug)]
#[must_use = "the mapping stays forgotten when this is dropped; see Mmu::recall_mapping"]
pub struct ForgottenMapping(Mapping);

impl ForgottenMapping {
    /// Its address.
    pub fn va(&self) -> Vaddr {
        self.0.va
    }
}

impl<P: Platform> Mmu<P> {
    /// Pins page tables without clearing lazy mappings before: the hypervisor refuses if there is
    /// one.
    ///
    /// # Errors
    ///
    /// The tables come back as they were, with the reason.
    pub fn pin_without_before_pin(
        &mut self,
        tables: UnpinnedTables,
    ) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        self.pin_now(tables)
    }

    /// Removes the dead mappings of a frame from the index, so that a pin of the frame does not
    /// clear them. The mappings stay.
    pub fn lose_lazy(&mut self, frame: Pfn) {
        self.vmap.forget_dead(&FrameSet::from_iter([frame]));
    }

    /// The machine below, with which everything can be broken.
    pub fn platform(&mut self) -> &mut P {
        &mut self.entries.platform
    }

    /// Writes a word of the root table as it is.
    pub fn write_entry(&mut self, tables: &UnpinnedTables, index: usize, entry: u64) {
        self.write(tables.root(), index, entry);
    }

    /// Says whether this CPU leaks the vmap blocks that drain: their dead mappings are forgotten.
    pub fn leak_blocks(&mut self, cpu: usize, leak: bool) {
        self.vmap.set_leaks(cpu, leak);
    }

    /// Whether an address is in a leaked block.
    pub fn is_leaked(&self, va: Vaddr) -> bool {
        self.vmap.is_leaked(va)
    }

    /// Clears what leaked blocks left, and frees their addresses. Returns how many mappings there
    /// were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn reclaim_leaked_blocks(&mut self) -> Result<u64, Error> {
        self.vmap.reclaim_leaked_blocks(&mut self.entries)
    }

    /// Removes the mapping of a frame at this address from the reverse map, if it is there.
    pub fn forget_mapping(&mut self, frame: Pfn, va: Vaddr) -> Option<ForgottenMapping> {
        let rmap = self.entries.rmap.as_mut()?;
        let found = rmap.of(&FrameSet::from_iter([frame]));
        let mapping = found.into_iter().find(|mapping| mapping.va == va)?;
        rmap.clear(mapping.ptr).map(ForgottenMapping)
    }

    /// Puts a forgotten mapping back into the reverse map.
    pub fn recall_mapping(&mut self, forgotten: ForgottenMapping) {
        if let Some(rmap) = &mut self.entries.rmap {
            rmap.set(forgotten.0);
        }
    }
}
