//! Keeping the reverse map, and comparing it with the hypervisor's view.

use super::{Error, Leaf, Mmu};
use crate::addr::Pfn;
use crate::hypercall::Errno;
use crate::platform::Platform;
use crate::rmap::{Difference, Rmap, Subject};
use alloc::vec::Vec;
use pinfold_abi::mmu::MmuUpdate;

/// Frames that the hypervisor is asked about at a time: its answer has room for 64 mappings.
const FRAMES_PER_CALL: usize = 4;

impl<P: Platform> Mmu<P> {
    /// Keeps a reverse map from now on, after clearing all dead mappings. Page tables that exist
    /// already are not in it: it must be called before any are made.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal to clear mappings.
    pub fn enable_rmap(&mut self) -> Result<(), Error> {
        self.purge_vmap()?;
        self.purge_kmap()?;
        self.entries.rmap = Some(Rmap::default());
        let mapped: Vec<_> = self.vmap.live_pages().chain(self.kmap.mapped()).collect();
        for (va, frame) in mapped {
            let val = self.entries.leaf_entry(Leaf::kernel(frame));
            if let Some(ptr) = self.entries.window_entry(va) {
                self.entries.note_mapped(MmuUpdate { ptr, val }, frame, va);
            }
        }
        Ok(())
    }

    /// Drops the reverse map.
    pub fn disable_rmap(&mut self) {
        self.entries.rmap = None;
    }

    /// Compares the reverse map with the mappings of these frames that the hypervisor finds. There
    /// is no difference if every mapping was made through the shim. Tables that are not in use do
    /// not matter.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal; -ENOSYS where there is no such call.
    ///
    /// # Panics
    ///
    /// Without a reverse map; see [`enable_rmap`](Mmu::enable_rmap).
    pub fn check_rmap(&mut self, frames: &[Pfn]) -> Result<Vec<Difference>, Errno> {
        let mut differences = Vec::new();
        for some in frames.chunks(FRAMES_PER_CALL) {
            let found = self.find_aliases(some)?;
            let subject =
                |&pfn| Subject { pfn, mfn: self.mfn(pfn), direct_map_va: self.direct_map_va(pfn) };
            let subjects: Vec<Subject> = some.iter().map(subject).collect();
            let rmap = self.entries.rmap.as_ref().expect("the reverse map is enabled");
            differences.extend(rmap.compare(&subjects, &found));
        }
        Ok(differences)
    }
}
