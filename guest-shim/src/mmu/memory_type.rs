//! Memory types: write-back for all frames, except for those that a driver wants otherwise.
//!
//! A frame that one mapping caches and another does not is corrupted on real machines: a cache line
//! filled through the first is written back over what was written through the second. So a frame
//! has one type, and every mapping of it is made with that type. Before the type changes all old
//! mappings are cleared, the lazy ones too: they are as dangerous here as for page tables.

use super::address_space::DIRECT_MAP_RW;
use super::{Error, MemoryType, Mmu};
use crate::addr::Pfn;
use crate::frames::{FrameSet, MemoryTypes};
use crate::hypercall::Errno;
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::mmu::{UVMF_ALL, UVMF_INVLPG, UVMF_NONE};

impl<P: Platform> Mmu<P> {
    /// Gives frames another memory type: clears every lazy mapping of them, removes them from the
    /// direct map, flushes, and adds them to the direct map with the new type. Mappings made from
    /// then on have it. The contents stay. Nothing may use the frames meanwhile.
    ///
    /// A frame must be [`MemoryType::WriteBack`] again before it is freed: see
    /// [`free_frame`](Mmu::free_frame).
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when one of them is mapped and in use; or the hypervisor's refusal, as of a
    /// frame that an address space maps or that is a page table. All types are unchanged then.
    ///
    /// # Panics
    ///
    /// If a frame was not allocated here.
    pub fn set_memory_type(&mut self, frames: &[Pfn], memory: MemoryType) -> Result<(), Error> {
        let foreign = frames.iter().find(|&&pfn| !self.entries.frames.covers(pfn));
        assert!(foreign.is_none(), "frame {foreign:?} is not for data");
        let types = &self.entries.memory_types;
        let wanted: FrameSet =
            frames.iter().copied().filter(|&pfn| types.get(pfn) != memory).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        if let Some(va) = self.in_use(&wanted) {
            return Err(Error::InUse(va));
        }
        if self.clear_dead(&wanted)? > 0 {
            self.entries.stats.retypes_after_clear += 1;
        }
        let wanted: Vec<Pfn> = wanted.iter().collect();
        self.unmap_direct_map(&wanted)?;
        if let Err(errno) = self.map_direct_map(&wanted, |_, _| memory) {
            // One is mapped elsewhere with its old type. With that type it can be mapped again.
            self.unmap_direct_map(&wanted)?;
            self.map_direct_map(&wanted, MemoryTypes::get)?;
            return Err(errno.into());
        }
        for &pfn in &wanted {
            self.entries.memory_types.set(pfn, memory);
        }
        self.entries.stats.retyped += wanted.len() as u64;
        Ok(())
    }

    /// The memory type of a frame.
    pub fn memory_type(&self, pfn: Pfn) -> MemoryType {
        self.entries.memory_types.get(pfn)
    }

    fn unmap_direct_map(&mut self, frames: &[Pfn]) -> Result<(), Errno> {
        let platform = &mut self.entries.platform;
        let pages: Vec<_> = frames.iter().map(|&pfn| (platform.direct_map_va(pfn), 0)).collect();
        platform.update_va_mappings(&pages, UVMF_INVLPG | UVMF_ALL)
    }

    fn map_direct_map(
        &mut self,
        frames: &[Pfn],
        memory: impl Fn(&MemoryTypes, Pfn) -> MemoryType,
    ) -> Result<(), Errno> {
        let (platform, types) = (&mut self.entries.platform, &self.entries.memory_types);
        let entry = |pfn| {
            let flags = DIRECT_MAP_RW | memory(types, pfn).flags().bits();
            (platform.direct_map_va(pfn), platform.mfn(pfn).address() | flags)
        };
        let entries: Vec<_> = frames.iter().map(|&pfn| entry(pfn)).collect();
        // The pages were unmapped and flushed: no TLB has them.
        platform.update_va_mappings(&entries, UVMF_NONE)
    }
}
