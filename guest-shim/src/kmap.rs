//! Single frames mapped for a moment.
//!
//! Persistent slots keep a frame mapped after its last user is gone, in case it is wanted again:
//! a cache, and so a store of stray mappings. Atomic slots are two per CPU, for copying from one
//! frame to another; they too keep their last mapping until they are used again, or until somebody
//! who trusts nobody has it cleared at once.

mod atomic;

pub use atomic::Pair;

use crate::addr::{Pfn, Vaddr};
use crate::freed::FreedMap;
use crate::hypercall::Errno;
use crate::mmu::{Error, Leaf, Mmu, Window};
use crate::per_frame::{Counts, FrameSet};
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::{MmuUpdate, UVMF_ALL, UVMF_INVLPG};

/// Atomic slots of a CPU.
const PAIR: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    frame: Option<Pfn>,
    users: u32,
}

/// The slots.
#[derive(Debug)]
pub(crate) struct Kmap {
    window: Window,
    /// Slots that nobody uses.
    freed: FreedMap,
    /// The atomic pairs first, then the persistent ones.
    slots: Vec<Slot>,
    /// How many of them are atomic.
    atomic: usize,
    /// Slots that map a frame, by frame.
    mapped: Counts,
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
        Kmap::new(Window::closed(), FreedMap::new(0), 0, 0)
    }

    /// Pairs for so many CPUs, and so many persistent slots, as far as there is room.
    pub(crate) fn new(window: Window, freed: FreedMap, cpus: usize, persistent: usize) -> Kmap {
        let room = window.pages() as usize;
        let atomic = (cpus * PAIR).min(room);
        let slots = (atomic + persistent).min(room);
        Kmap {
            window,
            freed,
            slots: alloc::vec![Slot::default(); slots],
            atomic,
            mapped: Counts::default(),
            next: 0,
        }
    }

    /// Whether the address is one of these.
    pub(crate) fn covers(&self, va: Vaddr) -> bool {
        self.window.contains(va)
    }

    /// The slots of a CPU's pair.
    fn pair(&self, cpu: usize) -> [usize; PAIR] {
        let first = cpu * PAIR;
        assert!(first + PAIR <= self.atomic, "CPU {cpu} has no atomic slots");
        [first, first + 1]
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// Address of a slot.
    pub(crate) fn va(&self, slot: usize) -> Vaddr {
        self.window.va(slot as u64)
    }

    /// Notes what a slot maps.
    fn set(&mut self, slot: usize, frame: Option<Pfn>) {
        let before = core::mem::replace(&mut self.slots[slot].frame, frame);
        if let Some(before) = before {
            self.mapped.subtract(before);
        }
        if let Some(frame) = frame {
            self.mapped.add(frame);
        }
    }

    /// Notes that an idle slot was cleared, if the address is one's.
    pub(crate) fn forget(&mut self, va: Vaddr) {
        let Some(slot) = self.window.page(va).map(|page| page as usize) else { return };
        if self.slots.get(slot).is_some_and(|slot| slot.users == 0) {
            self.set(slot, None);
        }
    }

    /// Whether a slot maps the frame for somebody.
    pub(crate) fn has_users(&self, pfn: Pfn) -> bool {
        self.mapped.get(pfn) != 0
            && self.slots.iter().any(|slot| slot.users > 0 && slot.frame == Some(pfn))
    }

    /// Whether any slot maps one of these frames: seldom, and then there is nothing to search.
    fn has_any(&self, frames: &FrameSet) -> bool {
        frames.iter().any(|pfn| self.mapped.get(pfn) != 0)
    }

    /// Where one of these frames is mapped for somebody, if any is.
    pub(crate) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        if !self.has_any(frames) {
            return None;
        }
        let used = |slot: &Slot| slot.users > 0 && slot.frame.is_some_and(|f| frames.contains(f));
        self.slots.iter().position(used).map(|slot| self.va(slot))
    }

    /// The slots that still map one of these frames for nobody.
    pub(crate) fn cached_of(&self, frames: &FrameSet) -> Vec<usize> {
        if self.has_any(frames) { self.cached(|frame| frames.contains(frame)) } else { Vec::new() }
    }

    fn cached(&self, wanted: impl Fn(Pfn) -> bool) -> Vec<usize> {
        let idle = |slot: &Slot| slot.users == 0 && slot.frame.is_some_and(&wanted);
        (0..self.slots.len()).filter(|&slot| idle(&self.slots[slot])).collect()
    }

    /// The slots that map a frame: addresses and frames.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (Vaddr, Pfn)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, state)| Some((self.va(slot), state.frame?)))
    }

    /// The slot at an address.
    fn slot_at(&self, va: Vaddr) -> Option<usize> {
        let slot = (va.0.wrapping_sub(self.window.va(0).0) >> 12) as usize;
        (slot < self.slots.len()).then_some(slot)
    }

    /// Whether the slot at this address maps its frame for somebody.
    pub(crate) fn is_used(&self, va: Vaddr) -> bool {
        self.slot_at(va).is_some_and(|slot| self.slots[slot].users > 0)
    }

    /// Notes that the slot at this address maps another frame.
    pub(crate) fn replace(&mut self, va: Vaddr, frame: Pfn) {
        if let Some(slot) = self.slot_at(va) {
            self.set(slot, Some(frame));
        }
    }

    /// Tells whether somebody uses the slot.
    fn tell(&self, slot: usize) {
        let slots = slot as u64..slot as u64 + 1;
        self.freed.set(slots, self.slots[slot].users == 0);
    }

    /// A persistent slot that maps nothing.
    fn vacant(&mut self) -> Option<usize> {
        let count = self.slots.len() - self.atomic;
        let slot = (0..count)
            .map(|step| self.atomic + (self.next + step) % count)
            .find(|&slot| self.slots[slot].frame.is_none())?;
        self.next = slot - self.atomic + 1;
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
        let mut persistent = self.kmap.slots.iter().enumerate().skip(self.kmap.atomic);
        let found = persistent.find(|(_, slot)| slot.frame == Some(frame));
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
        self.kmap.tell(slot);
        Ok(Mapped { slot, va: self.kmap.va(slot) })
    }

    /// Gives a mapping back; the slot keeps it in case it is wanted again.
    pub fn kunmap(&mut self, mapped: Mapped) {
        self.kmap.slots[mapped.slot].users -= 1;
        self.kmap.tell(mapped.slot);
    }

    fn fill_slot(&mut self, slot: usize, frame: Pfn) -> Result<(), Errno> {
        let va = self.kmap.va(slot);
        let entry = self.leaf_entry(Leaf::kernel(frame));
        // Until the call is through, nobody knows what the slot maps; it is refused or done.
        self.platform.update_va_mappings(&[(va, entry)], UVMF_INVLPG | UVMF_ALL)?;
        self.kmap.set(slot, Some(frame));
        self.kmap.tell(slot);
        let ptr = self.kmap.window.entry_addr(va);
        self.note_mapped(MmuUpdate { ptr, val: entry }, frame, va);
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
        let entries: Vec<_> = slots.iter().map(|&slot| (self.kmap.va(slot), 0)).collect();
        self.platform.update_va_mappings(&entries, UVMF_INVLPG | UVMF_ALL)?;
        self.forget_slots(slots);
        Ok(slots.len() as u64)
    }

    /// Notes that slots were cleared.
    pub(crate) fn forget_slots(&mut self, slots: &[usize]) {
        for &slot in slots {
            self.kmap.set(slot, None);
            self.note_unmapped(self.kmap.window.entry_addr(self.kmap.va(slot)));
        }
        self.stats.kmaps_cleared += slots.len() as u64;
    }
}
