//! Memory types: write-back for all frames, but for those that a driver wants otherwise.
//!
//! A frame that is cached through one mapping and not through another is broken on real machines:
//! a line that the one left in the cache is written over what went past it through the other. So a
//! frame has one type, every mapping that is made of it has that type, and before the type changes
//! all the old mappings go, the lazy ones too: they are as deadly here as for page tables.

use super::address_space::DIRECT_MAP_RW;
use super::{Error, Mmu};
use crate::addr::Pfn;
use crate::hypercall::Errno;
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
pub use pinfold_abi::mmu::MemoryType;
use pinfold_abi::mmu::{UVMF_ALL, UVMF_INVLPG, UVMF_NONE};

/// The types of frames; few have one worth a note.
#[derive(Debug, Default)]
pub(crate) struct MemoryTypes(BTreeMap<Pfn, MemoryType>);

impl MemoryTypes {
    pub(crate) fn of(&self, pfn: Pfn) -> MemoryType {
        if self.0.is_empty() {
            return MemoryType::WriteBack;
        }
        self.0.get(&pfn).copied().unwrap_or_default()
    }

    fn set(&mut self, pfn: Pfn, memory: MemoryType) {
        if memory == MemoryType::WriteBack {
            self.0.remove(&pfn);
        } else {
            self.0.insert(pfn, memory);
        }
    }
}

impl<P: Platform> Mmu<P> {
    /// Gives frames another memory type: clears every lazy mapping of them, unmaps their homes,
    /// flushes, and maps the homes anew. What is mapped of them from then on has the type. Their
    /// contents stay. Nobody may use them meanwhile.
    ///
    /// A frame is made [`MemoryType::WriteBack`] again before it is freed: see
    /// [`free_frame`](Mmu::free_frame).
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when one of them is mapped on purpose; or the hypervisor's refusal, as of a
    /// frame that a space maps, or that is a page table. All of them then are what they were.
    ///
    /// # Panics
    ///
    /// If a frame is none that was given out here.
    pub fn set_memory_type(&mut self, frames: &[Pfn], memory: MemoryType) -> Result<(), Error> {
        let foreign = frames.iter().find(|&&pfn| !self.frames.covers(pfn));
        assert!(foreign.is_none(), "frame {foreign:?} is not for data");
        let others = frames.iter().copied().filter(|&pfn| self.memory.of(pfn) != memory);
        let wanted: FrameSet = others.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        if let Some(va) = self.in_use(&wanted) {
            return Err(Error::InUse(va));
        }
        if self.clear_dead(&wanted)? > 0 {
            self.stats.retypes_after_clear += 1;
        }
        let wanted: Vec<Pfn> = wanted.iter().collect();
        self.unmap_direct_map(&wanted)?;
        if let Err(errno) = self.map_direct_map(&wanted, |_, _| memory) {
            // One is mapped elsewhere, where it is what it was; with that nothing is in the way of
            // mapping it here.
            self.unmap_direct_map(&wanted)?;
            self.map_direct_map(&wanted, MemoryTypes::of)?;
            return Err(errno.into());
        }
        for &pfn in &wanted {
            self.memory.set(pfn, memory);
        }
        self.stats.retyped += wanted.len() as u64;
        Ok(())
    }

    /// Of which type the mappings of a frame are.
    pub fn memory_type(&self, pfn: Pfn) -> MemoryType {
        self.memory.of(pfn)
    }

    fn unmap_direct_map(&mut self, frames: &[Pfn]) -> Result<(), Errno> {
        let homes: Vec<_> =
            frames.iter().map(|&pfn| (self.platform.direct_map_va(pfn), 0)).collect();
        self.platform.update_va_mappings(&homes, UVMF_INVLPG | UVMF_ALL)
    }

    fn map_direct_map(
        &mut self,
        frames: &[Pfn],
        memory: impl Fn(&MemoryTypes, Pfn) -> MemoryType,
    ) -> Result<(), Errno> {
        let entry = |pfn| {
            let flags = DIRECT_MAP_RW | memory(&self.memory, pfn).flags().bits();
            (self.platform.direct_map_va(pfn), self.platform.mfn(pfn).address() | flags)
        };
        let homes: Vec<_> = frames.iter().map(|&pfn| entry(pfn)).collect();
        // Nothing was mapped there that a TLB could hold.
        self.platform.update_va_mappings(&homes, UVMF_NONE)
    }
}
