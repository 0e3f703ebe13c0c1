//! Unmapping frames everywhere, and mapping others in their place.

use super::{Error, Leaf, Mmu};
use crate::addr::{PAGE_WORDS, Pfn};
use crate::entries::Entries;
use crate::frames::FrameSet;
use crate::platform::Platform;
use crate::rmap::Mapping;
use alloc::vec::Vec;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate};

/// Frames that only the direct map maps, until they, or others in their place, are [mapped
/// again](Unmapped::map). When this is dropped instead, they stay unmapped: accesses of their users
/// fault.
#[derive(Debug)]
#[must_use = "the frames stay unmapped when this is dropped; see Unmapped::map"]
pub struct Unmapped<'a, P: Platform> {
    mmu: &'a mut Mmu<P>,
    frames: Vec<Pfn>,
    /// The cleared mappings that were in use.
    used: Vec<Mapping>,
    cleared: u64,
}

impl<P: Platform> Mmu<P> {
    /// Clears every mapping of these frames except for the direct map, with one flush for all:
    /// areas and slots, dead or alive, and entries of page tables.
    ///
    /// # Errors
    ///
    /// [`Error::InIo`] when a device uses one of them, which no page table stops; or the
    /// hypervisor's refusal: some mappings may be cleared then, and a second call clears the rest.
    ///
    /// # Panics
    ///
    /// Without a reverse map; see [`enable_rmap`](Mmu::enable_rmap).
    pub fn unmap_everywhere(&mut self, frames: &[Pfn]) -> Result<Unmapped<'_, P>, Error> {
        let set: FrameSet = frames.iter().copied().collect();
        self.refuse_in_io(&set)?;
        let rmap = self.entries.rmap.as_ref().expect("the reverse map is enabled");
        let found = rmap.of(&set);
        if !found.is_empty() {
            let updates: Vec<_> =
                found.iter().map(|mapping| MmuUpdate { ptr: mapping.ptr, val: 0 }).collect();
            self.entries.platform.mmu_update(&updates)?;
            self.flush()?;
        }
        let cleared = found.len() as u64;
        self.entries.stats.cleared += cleared;
        for mapping in &found {
            self.entries.note_unmapped(mapping.ptr);
        }
        // Dead mappings of the frames are gone with the others.
        let idle = self.kmap.idle_of(&set);
        self.kmap.forget_slots(&mut self.entries, &idle);
        self.vmap.forget_dead(&set);
        for frame in set.iter() {
            self.entries.free_deferred(frame);
        }
        let used = found.into_iter().filter(|mapping| self.is_used(mapping)).collect();
        Ok(Unmapped { mmu: self, frames: frames.to_vec(), used, cleared })
    }

    /// Whether a mapping was in use: in a window only those of live areas and of slots with users,
    /// elsewhere all.
    fn is_used(&self, mapping: &Mapping) -> bool {
        let Mapping { ptr, va, .. } = *mapping;
        let in_window = self.entries.window_entry(va) == Some(ptr);
        !in_window || self.vmap.is_live_at(va) || self.kmap.is_used(va)
    }

    /// Records that a mapping in use maps another frame.
    fn note_moved(&mut self, mapping: &Mapping, update: MmuUpdate, target: Pfn) {
        let va = mapping.va;
        self.entries.note_mapped(update, target, va);
        if self.entries.window_entry(va) != Some(mapping.ptr) {
            return;
        }
        if self.vmap.covers(va) {
            self.vmap.replace(va, target);
        } else {
            self.kmap.replace(va, target);
        }
    }
}

impl<P: Platform> Unmapped<'_, P> {
    /// Mappings that were cleared.
    pub fn cleared(&self) -> u64 {
        self.cleared
    }

    /// Copies the frames, in their order, to others.
    ///
    /// # Panics
    ///
    /// If the number of frames differs, or one was not allocated.
    pub fn copy(&mut self, to: &[Pfn]) {
        assert_eq!(self.frames.len(), to.len(), "each frame has one that it is copied to");
        for (&from, &to) in self.frames.iter().zip(to) {
            for index in 0..PAGE_WORDS {
                let word = self.mmu.read(from, index);
                self.mmu.write(to, index, word);
            }
        }
    }

    /// Maps these frames, in the order of the unmapped ones, at every address where those were
    /// mapped and in use. Returns how many mappings there are.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal: a frame can't be mapped as the other was. Some addresses map the
    /// new frames then, and some nothing.
    ///
    /// # Panics
    ///
    /// If the number of frames differs, or one was not allocated.
    pub fn map(self, to: &[Pfn]) -> Result<u64, Error> {
        let Unmapped { mmu, frames, used, .. } = self;
        assert_eq!(frames.len(), to.len(), "each frame has one in its place");
        let mut updates = Vec::with_capacity(used.len());
        let mut targets = Vec::with_capacity(used.len());
        for mapping in &used {
            let index = frames.iter().position(|&frame| frame == mapping.frame);
            let target = index.map_or(mapping.frame, |index| to[index]);
            let flags = EntryFlags::from_bits_retain(mapping.entry);
            let writable = flags.contains(EntryFlags::WRITABLE);
            let user = flags.contains(EntryFlags::USER);
            let val = mmu.entries.leaf_entry(Leaf { frame: target, writable, user });
            updates.push(MmuUpdate { ptr: mapping.ptr, val });
            targets.push(target);
        }
        mmu.entries.platform.mmu_update(&updates)?;
        for ((mapping, update), &target) in used.iter().zip(updates).zip(&targets) {
            mmu.note_moved(mapping, update, target);
        }
        Ok(used.len() as u64)
    }
}
