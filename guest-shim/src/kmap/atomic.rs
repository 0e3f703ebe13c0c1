//! The two slots of each CPU, for copying from one frame to another.

use super::slots::{Kmap, PAIR};
use crate::addr::{Pfn, Vaddr};
use crate::entries::Entries;
use crate::error::Error;

/// The atomic slots of a CPU, in use. They go back with
/// [`Mmu::kunmap_atomic`](crate::mmu::Mmu::kunmap_atomic) or
/// [`Mmu::kunmap_atomic_now`](crate::mmu::Mmu::kunmap_atomic_now).
#[derive(Debug)]
#[must_use = "the pair stays taken when this is dropped; see Mmu::kunmap_atomic"]
pub struct Pair {
    cpu: usize,
    va: [Vaddr; PAIR],
}

impl Pair {
    /// Where the frames are mapped.
    pub fn va(&self) -> [Vaddr; PAIR] {
        self.va
    }
}

impl Kmap {
    /// Maps two frames, which may be the same, in the atomic slots of a CPU.
    pub(crate) fn map_atomic(
        &mut self,
        entries: &mut impl Entries,
        cpu: usize,
        frames: [Pfn; PAIR],
    ) -> Result<Pair, Error> {
        let slots = self.pair(cpu);
        if slots.iter().any(|&slot| self.slots[slot].users > 0) {
            return Err(Error::NoRoom);
        }
        for (slot, frame) in slots.into_iter().zip(frames) {
            self.fill(entries, slot, frame)?;
        }
        self.set_users(slots, 1);
        Ok(Pair { cpu, va: self.pair_va(cpu) })
    }

    /// Frees a pair. Both slots keep their mappings.
    pub(crate) fn unmap_atomic(&mut self, pair: Pair) {
        self.set_users(self.pair(pair.cpu), 0);
    }

    /// Frees a pair and clears its slots.
    pub(crate) fn unmap_atomic_now(
        &mut self,
        entries: &mut impl Entries,
        pair: Pair,
    ) -> Result<(), Error> {
        let slots = self.pair(pair.cpu);
        self.set_users(slots, 0);
        self.clear(entries, &slots)?;
        Ok(())
    }

    fn set_users(&mut self, slots: [usize; PAIR], users: u32) {
        for slot in slots {
            self.slots[slot].users = users;
            self.update_freed(slot);
        }
    }

    /// Addresses of the atomic slots of a CPU.
    pub(crate) fn pair_va(&self, cpu: usize) -> [Vaddr; PAIR] {
        self.pair(cpu).map(|slot| self.va(slot))
    }
}
