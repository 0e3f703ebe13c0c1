//! Mappings that are cleared lazily: vmap areas and kmap slots.

use super::{Error, Mmu};
use crate::addr::{Pfn, Vaddr, words_of};
use crate::kmap::{Mapped, Pair};
use crate::platform::Platform;
use crate::vmap::{Area, Policy, Region};

/// vmap areas.
impl<P: Platform> Mmu<P> {
    /// Maps frames side by side, writable.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] without addresses, or the hypervisor's refusal.
    pub fn vmap(&mut self, frames: &[Pfn]) -> Result<Area, Error> {
        self.vmap_in(Region::default(), frames)
    }

    /// Maps frames side by side, writable, in a named part of the range.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    pub fn vmap_in(&mut self, region: Region, frames: &[Pfn]) -> Result<Area, Error> {
        self.vmap.map(&mut self.entries, region, frames)
    }

    /// Maps frames as [`vmap_in`](Mmu::vmap_in) does. A small area is carved from a block of this
    /// CPU; areas of a block touch, with no unmapped page between them.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    pub fn vmap_small(
        &mut self,
        region: Region,
        cpu: usize,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        self.vmap.map_small(&mut self.entries, region, cpu, frames)
    }

    /// Unmaps an area, at once or later according to the policy.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal to clear mappings.
    pub fn vunmap(&mut self, area: Area) -> Result<(), Error> {
        self.vmap.unmap(&mut self.entries, area)
    }

    /// Clears all dead mappings of areas. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_vmap(&mut self) -> Result<u64, Error> {
        self.vmap.purge(&mut self.entries)
    }

    /// Sets the time, in a unit of the caller's, and clears all dead mappings if the oldest is at
    /// least so old. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_aged(&mut self, now: u64, age: u64) -> Result<u64, Error> {
        self.vmap.purge_aged(&mut self.entries, now, age)
    }

    /// Opens a part of the vmap range of at least so many pages, with a name for reports. Returns
    /// the part that has the name already, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] if not so many pages are free at the end of the range, or the hypervisor's
    /// refusal to clear mappings.
    pub fn open_region(&mut self, name: &'static str, pages: u64) -> Result<Region, Error> {
        self.vmap.open_region(&mut self.entries, name, pages)
    }

    /// Dead mappings of areas that may still exist.
    pub fn lazy_mappings(&self) -> u64 {
        self.vmap.dead_mappings()
    }

    /// Sets how many dead pages the lazy policies leave. By default it is 1024 on one CPU and 1024
    /// more for each doubling of the CPUs, but at most half of the range.
    pub fn set_lazy_limit(&mut self, pages: u64) {
        self.vmap.set_limit(pages);
    }

    /// Changes the policy, after clearing everything that is dead.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal to clear mappings.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), Error> {
        self.vmap.set_policy(&mut self.entries, policy)
    }
}

/// kmap slots.
impl<P: Platform> Mmu<P> {
    /// Maps a frame in a persistent slot, or finds the slot that still maps it.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when all slots have users, or the hypervisor's refusal.
    pub fn kmap(&mut self, frame: Pfn) -> Result<Mapped, Error> {
        self.kmap.map(&mut self.entries, frame)
    }

    /// Frees a mapping. The slot keeps it in case the frame is wanted again.
    pub fn kunmap(&mut self, mapped: Mapped) {
        self.kmap.unmap(mapped);
    }

    /// Clears every slot without users. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_kmap(&mut self) -> Result<u64, Error> {
        self.kmap.purge(&mut self.entries)
    }

    /// Maps two frames, which may be the same, in the atomic slots of a CPU. That CPU may use the
    /// mappings without the `Mmu`.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the pair is in use, or the hypervisor's refusal.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn kmap_atomic(&mut self, cpu: usize, frames: [Pfn; 2]) -> Result<Pair, Error> {
        self.kmap.map_atomic(&mut self.entries, cpu, frames)
    }

    /// Frees a pair. Both slots keep their mappings until they are used again, or until one of the
    /// frames becomes a page table.
    pub fn kunmap_atomic(&mut self, pair: Pair) {
        self.kmap.unmap_atomic(pair);
    }

    /// Frees a pair and clears its slots: a later access through them is a page fault, not a write
    /// to a frame that may have another owner. It costs a call and a flush of two addresses for
    /// each pair.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn kunmap_atomic_now(&mut self, pair: Pair) -> Result<(), Error> {
        self.kmap.unmap_atomic_now(&mut self.entries, pair)
    }

    /// Copies a frame to another through the atomic slots of a CPU, which keep both mappings.
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
        for (from, to) in words_of(source).zip(words_of(target)) {
            let word = self.entries.platform.load(from);
            self.entries.platform.store(to, word);
        }
        self.kunmap_atomic(pair);
        Ok(())
    }

    /// Addresses of the atomic slots of a CPU.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn kmap_pair(&self, cpu: usize) -> [Vaddr; 2] {
        self.kmap.pair_va(cpu)
    }
}
