//! Taking frames away from everybody who has them mapped, and giving others instead.

use super::Mapping;
use crate::addr::{PAGE_SIZE, Pfn};
use crate::mmu::{Error, Leaf, Mmu};
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate};

/// Frames that nobody can touch but at their homes, until they, or others in their place, are
/// [mapped again](Unmapped::map). When this is dropped instead, they stay unmapped: what their
/// users touch faults.
#[derive(Debug)]
#[must_use = "the frames stay unmapped when this is dropped; see Unmapped::map"]
pub struct Unmapped<'a, P: Platform> {
    mmu: &'a mut Mmu<P>,
    frames: Vec<Pfn>,
    /// What was mapped for somebody.
    used: Vec<Mapping>,
    cleared: u64,
}

impl<P: Platform> Mmu<P> {
    /// Clears every mapping of these frames but those at their homes: of areas and slots, dead or
    /// alive, of trees and of spaces, with one flush for all.
    ///
    /// # Errors
    ///
    /// [`Error::InIo`] when a device uses one of them, which no table stops; or the hypervisor's
    /// refusal: some mappings may be cleared then, and a second try clears the rest.
    ///
    /// # Panics
    ///
    /// Without a reverse map; see [`enable_rmap`](Mmu::enable_rmap).
    pub fn unmap_everywhere(&mut self, frames: &[Pfn]) -> Result<Unmapped<'_, P>, Error> {
        let set: FrameSet = frames.iter().copied().collect();
        self.refuse_pinned_for_io(&set)?;
        let rmap = self.rmap.as_ref().expect("a reverse map is kept");
        let found = rmap.of(&set);
        if !found.is_empty() {
            let updates: Vec<_> =
                found.iter().map(|mapping| MmuUpdate { ptr: mapping.ptr, val: 0 }).collect();
            self.platform.mmu_update(&updates)?;
            self.flush()?;
        }
        self.stats.cleared += found.len() as u64;
        for mapping in &found {
            self.note_unmapped(mapping.ptr);
        }
        // What was dead is dealt with by this.
        let idle = self.kmap.cached_of(&set);
        self.forget_slots(&idle);
        self.vmap.forget_dead(&set);
        for frame in set.iter() {
            self.frames.release(frame);
        }
        let cleared = found.len() as u64;
        let used = found.into_iter().filter(|mapping| self.is_used(mapping)).collect();
        Ok(Unmapped { mmu: self, frames: frames.to_vec(), used, cleared })
    }

    /// Whether a mapping was there for somebody: those of trees and spaces all are.
    fn is_used(&self, mapping: &Mapping) -> bool {
        let Mapping { ptr, va, .. } = *mapping;
        self.window_entry(va) != Some(ptr) || self.vmap.is_live_at(va) || self.kmap.is_used(va)
    }

    /// A used mapping maps another frame from now on.
    fn note_moved(&mut self, mapping: &Mapping, update: MmuUpdate, target: Pfn) {
        let va = mapping.va;
        self.note_mapped(update, target, va);
        if self.window_entry(va) != Some(mapping.ptr) {
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
    /// If they are not as many, or none that were given out.
    pub fn copy(&mut self, to: &[Pfn]) {
        assert_eq!(self.frames.len(), to.len(), "each frame has one that it is copied to");
        for (&from, &to) in self.frames.iter().zip(to) {
            for word in 0..(PAGE_SIZE / 8) as usize {
                let value = self.mmu.read(from, word);
                self.mmu.write(to, word, value);
            }
        }
    }

    /// Maps these frames, in the order of the others, wherever somebody had those mapped. How many
    /// mappings it are.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal: a frame is one that can't be mapped as the other was. Some users
    /// have it then, and some have nothing.
    ///
    /// # Panics
    ///
    /// If they are not as many, or none that were given out.
    pub fn map(self, to: &[Pfn]) -> Result<u64, Error> {
        let Unmapped { mmu, frames, used, .. } = self;
        assert_eq!(frames.len(), to.len(), "each frame has one in its place");
        let mut updates = Vec::with_capacity(used.len());
        let mut targets = Vec::with_capacity(used.len());
        for mapping in &used {
            let place = frames.iter().position(|&frame| frame == mapping.frame);
            let target = place.map_or(mapping.frame, |place| to[place]);
            let flags = EntryFlags::from_bits_retain(mapping.entry);
            let writable = flags.contains(EntryFlags::WRITABLE);
            let user = flags.contains(EntryFlags::USER);
            let val = mmu.leaf_entry(Leaf { frame: target, writable, user });
            updates.push(MmuUpdate { ptr: mapping.ptr, val });
            targets.push(target);
        }
        mmu.platform.mmu_update(&updates)?;
        for ((mapping, update), &target) in used.iter().zip(updates).zip(&targets) {
            mmu.note_moved(mapping, update, target);
        }
        Ok(used.len() as u64)
    }
}
