//! Memory of a domain that is being built.

use super::error::BuildError;
use crate::memory::frame_refs::WritableRef;
use crate::memory::{frames, m2p};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::paging::TABLE_ENTRIES;
use pinfold_image::GuestLayout;
use pinfold_validator::{DomId, Index, Mfn, Pfn};

/// The frames of a domain that is being built, by pfn. The list of them is the guest's own p2m, in the
/// guest's memory.
pub(super) struct GuestMemory {
    domain: DomId,
    /// The frames of the p2m.
    list: Vec<WritableRef>,
    pages: u64,
}

impl GuestMemory {
    /// Entry of the p2m.
    fn p2m_entry(&self, pfn: Pfn) -> &AtomicU64 {
        let frame = (pfn.get() / TABLE_ENTRIES as u64) as usize;
        self.list[frame].word(Index::new_truncate(pfn.get()))
    }

    /// The machine frame of a pfn, which is below the domain's size.
    pub(super) fn mfn(&self, pfn: Pfn) -> Mfn {
        Mfn::new(self.p2m_entry(pfn).load(Ordering::Relaxed))
    }

    /// The machine frame of a pfn, if the domain has it.
    pub(super) fn try_mfn(&self, pfn: Pfn) -> Option<Mfn> {
        (pfn.get() < self.pages).then(|| self.mfn(pfn))
    }

    /// Allocates all frames of a domain. `None` if there are not enough.
    pub(super) fn alloc(id: DomId, layout: &GuestLayout) -> Option<GuestMemory> {
        let alloc = |_| WritableRef::get(id, frames::alloc_domain_frame(id)?).ok();
        let list: Option<Vec<WritableRef>> = layout.p2m.clone().map(alloc).collect();
        let memory = GuestMemory { domain: id, list: list?, pages: layout.pages };
        for pfn in 0..layout.pages {
            let mfn = match pfn.checked_sub(layout.p2m.start) {
                Some(index) if pfn < layout.p2m.end => memory.list[index as usize].frame(),
                _ => frames::alloc_domain_frame(id)?,
            };
            let pfn = Pfn::new(pfn);
            memory.p2m_entry(pfn).store(mfn.get(), Ordering::Relaxed);
            m2p::set(mfn, Some(pfn));
        }
        Some(memory)
    }

    /// A frame, to write to. That can't fail while no frame is a page table.
    pub(super) fn frame(&self, pfn: Pfn) -> Result<WritableRef, BuildError> {
        WritableRef::get(self.domain, self.mfn(pfn)).map_err(BuildError::Tables)
    }

    /// Copies bytes to a pseudo-physical address.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), BuildError> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let in_page = (at % PAGE_SIZE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE as usize - in_page));
            self.frame(Pfn::from_address(at))?.write_bytes(in_page, now);
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }
}
