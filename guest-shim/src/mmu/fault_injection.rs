//! (feature `raw`) What the rest of this module makes impossible.

use super::{AddressSpace, Error, Mmu, UnpinnedTables};
use crate::platform::Platform;

impl<P: Platform> Mmu<P> {
    /// Pins a tree without dealing with lazy mappings first: the hypervisor refuses if there is
    /// one. For tests that want to see it refuse.
    ///
    /// # Errors
    ///
    /// The tree comes back as it was, with the reason.
    pub fn pin_without_before_pin(
        &mut self,
        tree: UnpinnedTables,
    ) -> Result<AddressSpace, (UnpinnedTables, Error)> {
        self.pin_now(tree)
    }

    /// Loses from the index what it knows of a frame's dead mappings, as a kernel with a mistake
    /// would: a pin of the frame does not look for them. They stay where they are.
    pub fn lose_lazy(&mut self, frame: crate::addr::Pfn) {
        self.vmap.lose(frame);
    }

    /// The machine below, with which everything can be broken.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }
}
