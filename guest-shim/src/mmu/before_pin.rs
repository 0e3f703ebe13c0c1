//! What is done before frames become page tables.

use super::{Error, Mmu};
use crate::addr::{Pfn, Vaddr};
use crate::entries::Entries;
use crate::frames::FrameSet;
use crate::platform::Platform;
use crate::vmap::Policy;
use alloc::vec::Vec;

impl<P: Platform> Mmu<P> {
    /// Clears every mapping of these frames that nobody uses any more, so that the hypervisor finds
    /// no alias when they become page tables. It costs nothing when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InIo`] when a device uses a frame, [`Error::InUse`] when one is mapped and in use,
    /// or the hypervisor's refusal.
    pub(super) fn before_pin(&mut self, frames: &[Pfn]) -> Result<(), Error> {
        // A clean frame has no mapping: it loses the mark when it gets one.
        let pool = &self.entries.table_pool;
        let others: FrameSet = frames.iter().copied().filter(|&pfn| !pool.is_clean(pfn)).collect();
        if others.is_empty() {
            self.entries.stats.clean_pins += 1;
            return Ok(());
        }
        self.refuse_in_io(&others)?;
        if let Some(va) = self.in_use(&others) {
            return Err(Error::InUse(va));
        }
        if self.clear_dead(&others)? > 0 {
            self.entries.stats.pins_after_clear += 1;
        }
        Ok(())
    }

    /// Records the mappings that the alias upcall cleared in the middle of a pin.
    pub(super) fn note_upcall_clears(&mut self) {
        for va in self.entries.platform.take_cleared() {
            self.entries.stats.cleared_by_upcall += 1;
            if let Some(frame) = self.vmap.forget(va) {
                self.entries.free_deferred(frame);
            }
            self.kmap.forget(va);
            self.entries.note_page_cleared(va);
        }
    }

    /// Where one of these frames is mapped and in use, if any is.
    pub(super) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        self.kmap.in_use(frames).or_else(|| self.vmap.in_use(frames))
    }

    /// Whether a frame is mapped and in use.
    pub(super) fn is_mapped(&self, pfn: Pfn) -> bool {
        self.vmap.is_live(pfn) || self.kmap.has_users(pfn)
    }

    /// Clears the dead mappings of these frames, and those of others if the policy can't tell them
    /// apart. Returns how many there were.
    pub(super) fn clear_dead(&mut self, frames: &FrameSet) -> Result<u64, Error> {
        let slots = self.kmap.idle_of(frames);
        if self.vmap.policy() == Policy::Targeted {
            // Slots and areas in one call.
            let addresses: Vec<Vaddr> = slots.iter().map(|&slot| self.kmap.va(slot)).collect();
            let cleared = self.vmap.shoot_down(&mut self.entries, frames, &addresses)?;
            self.kmap.forget_slots(&mut self.entries, &slots);
            return Ok(cleared);
        }
        let cleared = self.kmap.clear(&mut self.entries, &slots)?;
        let purge = match self.vmap.policy() {
            // `Eager` leaves nothing; `Targeted` was handled above.
            Policy::Eager | Policy::Targeted => false,
            // Nobody knows which frames the dead mappings have: all of them are cleared.
            Policy::Batch(_) | Policy::Lazy => true,
            // A freed frame is not reused while it has a dead mapping; one that the caller never
            // freed may have some.
            Policy::HoldRefs => frames.iter().any(|pfn| self.vmap.has_dead(pfn)),
            // It is known whether there are some, not where.
            Policy::Hinted => self.vmap.is_hinted(frames),
        };
        Ok(cleared + if purge { self.purge_vmap()? } else { 0 })
    }
}
