//! Single frames mapped for a moment.
//!
//! Persistent slots keep a frame mapped after its last user is gone, in case it is wanted again:
//! a cache, and so a store of stray mappings. Atomic slots are two per CPU, for copying from one
//! frame to another; they too keep their last mapping until they are used again.

use crate::addr::{Pfn, Vaddr};
use crate::hypercall::Errno;
use crate::mmu::{Error, Leaf, Mmu, Window};
use crate::platform::Platform;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use pinfold_abi::mmu::{UVMF_ALL, UVMF_INVLPG};

/// Atomic slots: a pair for the one CPU.
const ATOMIC: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    frame: Option<Pfn>,
    users: u32,
}

/// The slots.
#[derive(Debug)]
pub(crate) struct Kmap {
    window: Window,
    /// The atomic pair first, then the persistent ones.
    slots: Vec<Slot>,
    /// Where the search for a slot goes on.
    next: usize,
}

/// A frame mapped by [`Mmu::kmap`]; goes back with [`Mmu::kunmap`].
#[derive(Debug)]
#[must_use = "the slot stays taken when this is dropped; see Mmu::kunmap"]
pub struct Mapped {
    slot: usize,
    va: Vaddr,
}

impl Mapped {
    /// Where the frame is.
    pub fn va(&self) -> Vaddr {
        self.va
    }
}

impl Kmap {
    /// Without any slot.
    pub(crate) fn closed() -> Kmap {
        Kmap { window: Window::closed(), slots: Vec::new(), next: ATOMIC }
    }

    pub(crate) fn new(window: Window, persistent: usize) -> Kmap {
        let slots = ATOMIC + persistent.min(510);
        Kmap { window, slots: alloc::vec![Slot::default(); slots], next: ATOMIC }
    }

    /// Where one of these frames is mapped for somebody, if any is.
    pub(crate) fn in_use(&self, frames: &BTreeSet<Pfn>) -> Option<Vaddr> {
        let used = |slot: &Slot| slot.users > 0 && slot.frame.is_some_and(|f| frames.contains(&f));
        self.slots.iter().position(used).map(|slot| self.window.va(slot as u64))
    }

    /// The slots that still map one of these frames for nobody.
    pub(crate) fn take_cached(&mut self, frames: &BTreeSet<Pfn>) -> Vec<usize> {
        self.cached(|frame| frames.contains(&frame))
    }

    fn cached(&self, wanted: impl Fn(Pfn) -> bool) -> Vec<usize> {
        let idle = |slot: &Slot| slot.users == 0 && slot.frame.is_some_and(&wanted);
        (0..self.slots.len()).filter(|&slot| idle(&self.slots[slot])).collect()
    }

    /// A persistent slot that maps nothing.
    fn vacant(&mut self) -> Option<usize> {
        let count = self.slots.len().checked_sub(ATOMIC).filter(|&count| count > 0)?;
        let from = self.next - ATOMIC;
        let slot = (0..count)
            .map(|step| ATOMIC + (from + step) % count)
            .find(|&slot| self.slots[slot].frame.is_none())?;
        self.next = ATOMIC + (slot - ATOMIC + 1) % count;
        Some(slot)
    }
}

impl<P: Platform> Mmu<P> {
    /// Maps a frame, or finds it mapped still.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when all slots have users, or the hypervisor's refusal.
    pub fn kmap(&mut self, frame: Pfn) -> Result<Mapped, Error> {
        let persistent = self.kmap.slots.iter().enumerate().skip(ATOMIC);
        let found = persistent.into_iter().find(|(_, slot)| slot.frame == Some(frame));
        let slot = match found.map(|(slot, _)| slot) {
            Some(slot) => slot,
            None => {
                let slot = match self.kmap.vacant() {
                    Some(slot) => slot,
                    None => {
                        self.purge_kmap()?;
                        self.kmap.vacant().ok_or(Error::NoRoom)?
                    }
                };
                self.fill_slot(slot, frame)?;
                slot
            }
        };
        self.kmap.slots[slot].users += 1;
        Ok(Mapped { slot, va: self.kmap.window.va(slot as u64) })
    }

    /// Gives a mapping back; the slot keeps it in case it is wanted again.
    pub fn kunmap(&mut self, mapped: Mapped) {
        self.kmap.slots[mapped.slot].users -= 1;
    }

    /// Copies a frame to another through the atomic pair, which keeps both mappings.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn copy_frame(&mut self, from: Pfn, to: Pfn) -> Result<(), Error> {
        self.fill_slot(0, from)?;
        self.fill_slot(1, to)?;
        let (source, target) = (self.kmap.window.va(0), self.kmap.window.va(1));
        for word in (0..4096).step_by(8) {
            let value = self.platform.load(Vaddr(source.0 + word));
            self.platform.store(Vaddr(target.0 + word), value);
        }
        Ok(())
    }

    /// Addresses of the atomic pair.
    pub fn kmap_pair(&self) -> [Vaddr; ATOMIC] {
        [self.kmap.window.va(0), self.kmap.window.va(1)]
    }

    fn fill_slot(&mut self, slot: usize, frame: Pfn) -> Result<(), Errno> {
        let va = self.kmap.window.va(slot as u64);
        let entry = self.platform.mfn(frame).addr() | Leaf::kernel(frame).flags();
        // Until the call is through, nobody knows what the slot maps; it is refused or done.
        self.platform.update_va_mappings(&[(va, entry)], UVMF_INVLPG | UVMF_ALL)?;
        self.kmap.slots[slot].frame = Some(frame);
        self.stats.kmaps += 1;
        Ok(())
    }

    /// Clears every slot that nobody uses; how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_kmap(&mut self) -> Result<u64, Error> {
        let idle = self.kmap.cached(|_| true);
        self.clear_kmap(&idle)
    }

    /// Clears slots that nobody uses; how many.
    pub(crate) fn clear_kmap(&mut self, slots: &[usize]) -> Result<u64, Error> {
        if slots.is_empty() {
            return Ok(0);
        }
        let entries: Vec<_> =
            slots.iter().map(|&slot| (self.kmap.window.va(slot as u64), 0)).collect();
        self.platform.update_va_mappings(&entries, UVMF_INVLPG | UVMF_ALL)?;
        for &slot in slots {
            self.kmap.slots[slot].frame = None;
        }
        let cleared = slots.len() as u64;
        self.stats.shootdowns += 1;
        self.stats.flushes += cleared;
        self.stats.cleared += cleared;
        Ok(cleared)
    }
}
