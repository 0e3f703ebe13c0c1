//! (feature `hostile`) A mapping that the map doesn't have, as a kernel's would be that was made
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
        let reverse = self.reverse.as_mut()?;
        let of: crate::per_frame::FrameSet = [frame].into_iter().collect();
        let mapping = reverse.of(&of).into_iter().find(|mapping| mapping.va == va)?;
        reverse.clear(mapping.ptr).map(Forgotten)
    }

    /// Has the reverse map know it again.
    pub fn recall_mapping(&mut self, forgotten: Forgotten) {
        if let Some(reverse) = &mut self.reverse {
            reverse.set(forgotten.0);
        }
    }
}
