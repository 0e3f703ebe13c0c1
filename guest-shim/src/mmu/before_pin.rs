//! The one place where lazy mappings meet page tables.

use super::{Error, Mmu};
use crate::addr::Pfn;
use crate::platform::Platform;
use crate::vmap::Policy;
use alloc::collections::BTreeSet;

impl<P: Platform> Mmu<P> {
    /// Makes sure that none of these frames has a mapping that nobody uses any more, so that the
    /// hypervisor finds no alias when they become page tables. Costs nothing when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when a frame is mapped on purpose, or the hypervisor's refusal.
    pub(super) fn before_pin(&mut self, frames: &[Pfn]) -> Result<(), Error> {
        let wanted: BTreeSet<Pfn> = frames.iter().copied().collect();
        if let Some(va) = self.kmap.in_use(&wanted).or_else(|| self.vmap.in_use(&wanted)) {
            return Err(Error::InUse(va));
        }
        let slots = self.kmap.take_cached(&wanted);
        let mut cleared = self.clear_kmap(&slots)?;
        cleared += match self.vmap.policy() {
            // Nothing is ever left.
            Policy::Eager => 0,
            // Nobody knows which frames the dead mappings have: all of them go.
            Policy::Batch(_) | Policy::Lazy => self.purge_vmap()?,
            // A frame with a dead mapping is not given out; one that the caller kept all the
            // time may have some.
            Policy::HoldRefs if frames.iter().any(|&pfn| self.vmap.has_lazy(pfn)) => {
                self.purge_vmap()?
            }
            Policy::HoldRefs => 0,
            Policy::Targeted => self.shoot_down(&wanted)?,
        };
        if cleared > 0 {
            self.stats.rescued += 1;
        }
        Ok(())
    }
}
