//! Slots that keep their mapping as a cache.

use super::slots::Kmap;
use crate::addr::{Pfn, Vaddr};
use crate::entries::Entries;
use crate::error::Error;
use crate::hypercall::Errno;
use alloc::vec::Vec;

/// A frame mapped by [`Mmu::kmap`](crate::mmu::Mmu::kmap). It goes back with
/// [`Mmu::kunmap`](crate::mmu::Mmu::kunmap).
#[derive(Debug)]
#[must_use = "the slot stays taken when this is dropped; see Mmu::kunmap"]
pub struct Mapped {
    slot: usize,
    va: Vaddr,
}

impl Mapped {
    /// Where the frame is mapped.
    pub fn va(&self) -> Vaddr {
        self.va
    }
}

impl Kmap {
    /// Maps a frame in a persistent slot, or finds the slot that still maps it.
    pub(crate) fn map(&mut self, entries: &mut impl Entries, frame: Pfn) -> Result<Mapped, Error> {
        let slot = match self.find(frame) {
            Some(slot) => slot,
            None => {
                let slot = match self.vacant() {
                    Some(slot) => slot,
                    None => {
                        self.purge(entries)?;
                        self.vacant().ok_or(Error::NoRoom)?
                    }
                };
                self.fill(entries, slot, frame)?;
                slot
            }
        };
        self.slots[slot].users += 1;
        self.update_freed(slot);
        Ok(Mapped { slot, va: self.va(slot) })
    }

    /// Drops a user of a mapping. The slot keeps it.
    pub(crate) fn unmap(&mut self, mapped: Mapped) {
        self.slots[mapped.slot].users -= 1;
        self.update_freed(mapped.slot);
    }

    /// Maps a frame in a slot.
    pub(super) fn fill(
        &mut self,
        entries: &mut impl Entries,
        slot: usize,
        frame: Pfn,
    ) -> Result<(), Errno> {
        entries.replace(self.va(slot), frame)?;
        self.set(slot, Some(frame));
        self.update_freed(slot);
        entries.stats().kmaps += 1;
        Ok(())
    }

    /// Clears every slot without users. Returns how many there were.
    pub(crate) fn purge(&mut self, entries: &mut impl Entries) -> Result<u64, Error> {
        let idle = self.idle(|_| true);
        self.clear(entries, &idle)
    }

    /// Clears slots without users. Returns how many.
    pub(crate) fn clear(
        &mut self,
        entries: &mut impl Entries,
        slots: &[usize],
    ) -> Result<u64, Error> {
        if slots.is_empty() {
            return Ok(0);
        }
        let pages: Vec<Vaddr> = slots.iter().map(|&slot| self.va(slot)).collect();
        entries.clear_pages(&pages)?;
        self.forget_slots(entries, slots);
        Ok(slots.len() as u64)
    }

    /// Records that slots were cleared.
    pub(crate) fn forget_slots(&mut self, entries: &mut impl Entries, slots: &[usize]) {
        for &slot in slots {
            self.set(slot, None);
        }
        entries.stats().kmaps_cleared += slots.len() as u64;
    }
}
