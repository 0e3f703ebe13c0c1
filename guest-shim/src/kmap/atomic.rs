//! The two slots that each CPU has of its own, for copying from one frame to another.

use super::PAIR;
use crate::addr::{PAGE_SIZE, Pfn, Vaddr};
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;

/// A CPU's pair, in use; goes back with [`Mmu::kunmap_atomic`] or [`Mmu::kunmap_atomic_now`].
#[derive(Debug)]
#[must_use = "the pair stays taken when this is dropped; see Mmu::kunmap_atomic"]
pub struct Pair {
    cpu: usize,
    va: [Vaddr; PAIR],
}

impl Pair {
    /// Where the frames are.
    pub fn va(&self) -> [Vaddr; PAIR] {
        self.va
    }
}

impl<P: Platform> Mmu<P> {
    /// Maps two frames, which may be the same, in a CPU's pair. That CPU may use the mappings
    /// without the owner of them.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the pair is in use, or the hypervisor's refusal.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn kmap_atomic(&mut self, cpu: usize, frames: [Pfn; PAIR]) -> Result<Pair, Error> {
        let slots = self.kmap.pair(cpu);
        if slots.iter().any(|&slot| self.kmap.slots[slot].users > 0) {
            return Err(Error::NoRoom);
        }
        for (slot, frame) in slots.into_iter().zip(frames) {
            self.fill_slot(slot, frame)?;
        }
        self.set_users(slots, 1);
        Ok(Pair { cpu, va: self.kmap_pair(cpu) })
    }

    /// Gives a pair back. Both slots keep their mappings until they are used again, or until one
    /// of the frames becomes a page table.
    pub fn kunmap_atomic(&mut self, pair: Pair) {
        self.set_users(self.kmap.pair(pair.cpu), 0);
    }

    /// Gives a pair back and clears its slots: who goes on using them meets a page fault, and not
    /// a page that is somebody else's by then. It costs a call and a flush of two addresses for
    /// each pair.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn kunmap_atomic_now(&mut self, pair: Pair) -> Result<(), Error> {
        let slots = self.kmap.pair(pair.cpu);
        self.set_users(slots, 0);
        self.clear_kmap(&slots)?;
        Ok(())
    }

    fn set_users(&mut self, slots: [usize; PAIR], users: u32) {
        for slot in slots {
            self.kmap.slots[slot].users = users;
            self.kmap.tell(slot);
        }
    }

    /// Copies a frame to another through a CPU's atomic pair, which keeps both mappings.
    ///
    /// # Errors
    ///
    /// As [`kmap_atomic`](Mmu::kmap_atomic).
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn copy_frame(&mut self, cpu: usize, from: Pfn, to: Pfn) -> Result<(), Error> {
        let pair = self.kmap_atomic(cpu, [from, to])?;
        let [source, target] = pair.va();
        for word in (0..PAGE_SIZE).step_by(8) {
            let value = self.platform.load(Vaddr(source.0 + word));
            self.platform.store(Vaddr(target.0 + word), value);
        }
        self.kunmap_atomic(pair);
        Ok(())
    }

    /// Addresses of a CPU's atomic pair.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn kmap_pair(&self, cpu: usize) -> [Vaddr; PAIR] {
        self.kmap.pair(cpu).map(|slot| self.kmap.va(slot))
    }
}
