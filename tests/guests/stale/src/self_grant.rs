//! A grant to the domain itself, mapped again and again, so that the table of handles grows.

use crate::forgery::Forgery;
use crate::table::GrantTable;
use alloc::vec::Vec;
use pinfold_abi::grant::{MAP_GRANT_REF, MapFlags, MapGrantRef, RESERVED_ENTRIES};
use pinfold_abi::mmu::UVMF_INVLPG;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::TableFixture;
use pinfold_guest::raw::{self, grants};

/// The entry of the grant.
pub(crate) const REFERENCE: u32 = RESERVED_ENTRIES;
/// Handles in one frame: 16 bytes each.
const HANDLES_PER_FRAME: u32 = 256;

/// A granted page, and the address at which it is mapped.
#[derive(Debug)]
pub(crate) struct SelfGrant {
    dom: u16,
    place: Vaddr,
}

impl SelfGrant {
    /// Grants a fixture frame. `None` if its address can't be unmapped.
    pub(crate) fn new(
        fixture: &mut TableFixture,
        table: &GrantTable,
        dom: u16,
    ) -> Option<SelfGrant> {
        let (page, place) = (fixture.lose(), fixture.lose());
        let self_grant = SelfGrant { dom, place: fixture.va(place) };
        table.set(REFERENCE, Forgery::entries(dom, fixture.mfn(page)).even);
        self_grant.clear().then_some(self_grant)
    }

    /// Clears the entry at the address. The mappings that were there can't be unmapped any more.
    pub(crate) fn clear(&self) -> bool {
        // SAFETY: the address of a fixture frame, where Rust uses no memory.
        unsafe { raw::update_va_mapping(self.place, 0, UVMF_INVLPG) == 0 }
    }

    /// Maps the grant `count` times. Returns the last handle.
    fn map(&self, count: u32) -> Option<u32> {
        let asked = |_| MapGrantRef {
            host_addr: self.place.0,
            flags: MapFlags::HOST_MAP.bits(),
            reference: REFERENCE,
            dom: self.dom,
            status: 1,
            ..MapGrantRef::default()
        };
        let mut list: Vec<MapGrantRef> = (0..count).map(asked).collect();
        grants::list(MAP_GRANT_REF, &mut list).ok()?;
        let list = core::hint::black_box(list);
        list.iter().all(|mapped| mapped.status == 0).then_some(list.last()?.handle)
    }

    /// Maps until the last handle of a frame of handles is used. Returns it.
    pub(crate) fn use_up(&self) -> Option<u32> {
        let mut last = self.map(1)?;
        let missing = HANDLES_PER_FRAME - 1 - last % HANDLES_PER_FRAME;
        if missing > 0 {
            last = self.map(missing)?;
        }
        (last % HANDLES_PER_FRAME == HANDLES_PER_FRAME - 1).then_some(last)
    }

    /// Maps once. Returns the handle.
    pub(crate) fn map_one(&self) -> Option<u32> {
        self.map(1)
    }

    /// Unmaps. Returns the status.
    pub(crate) fn unmap(&self, handle: u32) -> i16 {
        grants::unmap(handle, self.place.0)
    }
}
