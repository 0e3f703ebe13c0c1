//! (feature `raw`) A mapping that the map doesn't have, as a kernel's would be that was made
//! behind its back.

use super::Mapping;
use crate::addr::{Pfn, Vaddr};
use crate::mmu::Mmu;
use crate::platform::Platform;

/// A mapping that was forgotten.
#[derive(Debug)]
#[must_use = "the mapping stays forgotten when this is dropped; see Mmu::recall_mapping"]
pub struct Forgotten(Mapping);

impl Forgotten {
    /// Its address.
    pub fn va(&self) -> Vaddr {
        self.0.va
    }
}

impl<P: Platform> Mmu<P> {
    /// Has the reverse map forget a frame's mapping at this address, if it has it.
    pub fn forget_mapping(&mut self, frame: Pfn, va: Vaddr) -> Option<Forgotten> {
        let rmap = self.rmap.as_mut()?;
        let of: crate::per_frame::FrameSet = [frame].into_iter().collect();
        let mapping = rmap.of(&of).into_iter().find(|mapping| mapping.va == va)?;
        rmap.clear(mapping.ptr).map(Forgotten)
    }

    /// Has the reverse map know it again.
    pub fn recall_mapping(&mut self, forgotten: Forgotten) {
        if let Some(rmap) = &mut self.rmap {
            rmap.set(forgotten.0);
        }
    }
}
