//! The one place where lazy mappings meet page tables.

use super::{Error, Mmu};
use crate::addr::{Pfn, Vaddr};
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use crate::vmap::Policy;

impl<P: Platform> Mmu<P> {
    /// Makes sure that none of these frames has a mapping that nobody uses any more, so that the
    /// hypervisor finds no alias when they become page tables. Costs nothing when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InIo`] when somebody holds a frame, [`Error::InUse`] when one is mapped on purpose, or the hypervisor's refusal.
    pub(super) fn before_pin(&mut self, frames: &[Pfn]) -> Result<(), Error> {
        // What is clean stays clean until it is mapped: nothing to look for.
        let doubtful = frames.iter().copied().filter(|&pfn| !self.tables.is_clean(pfn));
        let wanted: FrameSet = doubtful.collect();
        if wanted.is_empty() {
            self.stats.clean_pins += 1;
            return Ok(());
        }
        self.refuse_pinned_for_io(&wanted)?;
        if let Some(va) = self.in_use(&wanted) {
            return Err(Error::InUse(va));
        }
        if self.clear_dead(&wanted)? > 0 {
            self.stats.pins_after_clear += 1;
        }
        Ok(())
    }

    /// Corrects what is known of mappings that were cleared in the middle of a pin.
    pub(super) fn note_upcall_clears(&mut self) {
        for va in self.platform.take_cleared() {
            self.stats.cleared_by_upcall += 1;
            if let Some(frame) = self.vmap.forget(va) {
                self.frames.release(frame);
            }
            self.kmap.forget(va);
            if let Some(ptr) = self.window_entry(va) {
                self.note_unmapped(ptr);
            }
        }
    }

    /// Where one of these frames is mapped on purpose, if any is.
    pub(crate) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        self.kmap.in_use(frames).or_else(|| self.vmap.in_use(frames))
    }

    /// Whether a frame is mapped on purpose.
    pub(crate) fn is_mapped(&self, pfn: Pfn) -> bool {
        self.vmap.is_live(pfn) || self.kmap.has_users(pfn)
    }

    /// Clears the dead mappings of these frames, and others as far as the policy knows no better;
    /// how many there were.
    pub(crate) fn clear_dead(&mut self, frames: &FrameSet) -> Result<u64, Error> {
        let slots = self.kmap.cached_of(frames);
        if self.vmap.policy() == Policy::Targeted {
            // Slots and areas in one call.
            return self.shoot_down(frames, &slots);
        }
        let cleared = self.clear_kmap(&slots)?;
        let purge = match self.vmap.policy() {
            // Nothing is ever left; or found above.
            Policy::Eager | Policy::Targeted => false,
            // Nobody knows which frames the dead mappings have: all of them go.
            Policy::Batch(_) | Policy::Lazy => true,
            // A frame with a dead mapping is not given out; one that the caller kept all the
            // time may have some.
            Policy::HoldRefs => frames.iter().any(|pfn| self.vmap.has_lazy(pfn)),
            // Whether there are some is known, not where.
            Policy::Hinted => self.vmap.is_hinted(frames),
        };
        Ok(cleared + if purge { self.purge_vmap()? } else { 0 })
    }
}
