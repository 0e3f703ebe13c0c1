//! Which slot maps which frame, and for how many users.

use crate::addr::{Pfn, Vaddr};
use crate::entries::{FreedMap, Window};
use crate::frames::{Counts, FrameSet};
use alloc::vec::Vec;

/// Atomic slots of a CPU.
pub(super) const PAIR: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) frame: Option<Pfn>,
    pub(super) users: u32,
}

/// The slots.
#[derive(Debug)]
pub(crate) struct Kmap {
    window: Window,
    /// Slots without users, for reports of the hypervisor.
    freed: FreedMap,
    /// The atomic pairs first, then the persistent slots.
    pub(super) slots: Vec<Slot>,
    /// How many of them are atomic.
    pub(super) atomic: usize,
    /// How many slots map each frame.
    mapped: Counts,
    /// The persistent slot where the next search begins.
    next: usize,
}

impl Kmap {
    /// Without any slot.
    pub(crate) fn empty() -> Kmap {
        Kmap::new(Window::empty(), FreedMap::new(0), 0, 0)
    }

    /// Atomic pairs for so many CPUs, and so many persistent slots, as far as there is room.
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

    /// Whether an address is in the range of the slots.
    pub(crate) fn covers(&self, va: Vaddr) -> bool {
        self.window.contains(va)
    }

    /// The atomic slots of a CPU.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub(super) fn pair(&self, cpu: usize) -> [usize; PAIR] {
        let first = cpu * PAIR;
        assert!(first + PAIR <= self.atomic, "CPU {cpu} has no atomic slots");
        [first, first + 1]
    }

    /// Address of a slot.
    pub(crate) fn va(&self, slot: usize) -> Vaddr {
        self.window.va(slot as u64)
    }

    /// Records what a slot maps.
    pub(super) fn set(&mut self, slot: usize, frame: Option<Pfn>) {
        let before = core::mem::replace(&mut self.slots[slot].frame, frame);
        if let Some(before) = before {
            self.mapped.decrement(before);
        }
        if let Some(frame) = frame {
            self.mapped.increment(frame);
        }
    }

    /// Marks the slot in the freed bits according to its users.
    pub(super) fn update_freed(&self, slot: usize) {
        let slots = slot as u64..slot as u64 + 1;
        self.freed.set(slots, self.slots[slot].users == 0);
    }

    /// The slot at an address.
    fn slot_at(&self, va: Vaddr) -> Option<usize> {
        let slot = self.window.page(va)? as usize;
        (slot < self.slots.len()).then_some(slot)
    }

    /// Records that the slot at this address was cleared, if it has no users.
    pub(crate) fn forget(&mut self, va: Vaddr) {
        if let Some(slot) = self.slot_at(va)
            && self.slots[slot].users == 0
        {
            self.set(slot, None);
        }
    }

    /// Whether a slot maps the frame for a user.
    pub(crate) fn has_users(&self, pfn: Pfn) -> bool {
        self.mapped.get(pfn) != 0
            && self.slots.iter().any(|slot| slot.users > 0 && slot.frame == Some(pfn))
    }

    /// Whether any slot maps one of these frames; if not, no search is needed.
    fn has_any(&self, frames: &FrameSet) -> bool {
        frames.iter().any(|pfn| self.mapped.get(pfn) != 0)
    }

    /// Where one of these frames is mapped for a user.
    pub(crate) fn in_use(&self, frames: &FrameSet) -> Option<Vaddr> {
        if !self.has_any(frames) {
            return None;
        }
        let used = |slot: &Slot| slot.users > 0 && slot.frame.is_some_and(|f| frames.contains(f));
        self.slots.iter().position(used).map(|slot| self.va(slot))
    }

    /// The slots that map one of these frames and have no users.
    pub(crate) fn idle_of(&self, frames: &FrameSet) -> Vec<usize> {
        if self.has_any(frames) { self.idle(|frame| frames.contains(frame)) } else { Vec::new() }
    }

    /// The slots that map such a frame and have no users.
    pub(super) fn idle(&self, wanted: impl Fn(Pfn) -> bool) -> Vec<usize> {
        let idle = |slot: &Slot| slot.users == 0 && slot.frame.is_some_and(&wanted);
        (0..self.slots.len()).filter(|&slot| idle(&self.slots[slot])).collect()
    }

    /// The slots that map a frame: addresses and frames.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (Vaddr, Pfn)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, state)| Some((self.va(slot), state.frame?)))
    }

    /// Whether the slot at this address has users.
    pub(crate) fn is_used(&self, va: Vaddr) -> bool {
        self.slot_at(va).is_some_and(|slot| self.slots[slot].users > 0)
    }

    /// Records that the slot at this address maps another frame.
    pub(crate) fn replace(&mut self, va: Vaddr, frame: Pfn) {
        if let Some(slot) = self.slot_at(va) {
            self.set(slot, Some(frame));
        }
    }

    /// The persistent slot that maps a frame.
    pub(super) fn find(&self, frame: Pfn) -> Option<usize> {
        let mut persistent = self.slots.iter().enumerate().skip(self.atomic);
        persistent.find(|(_, slot)| slot.frame == Some(frame)).map(|(slot, _)| slot)
    }

    /// A persistent slot that maps nothing.
    pub(super) fn vacant(&mut self) -> Option<usize> {
        let count = self.slots.len() - self.atomic;
        let slot = (0..count)
            .map(|step| self.atomic + (self.next + step) % count)
            .find(|&slot| self.slots[slot].frame.is_none())?;
        self.next = slot - self.atomic + 1;
        Some(slot)
    }
}
