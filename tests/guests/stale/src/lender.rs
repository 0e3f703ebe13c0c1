//! A grant to oneself, mapped again and again, so that the books of handles grow.

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
/// Handles in a frame of them: 16 bytes each.
const HANDLES_PER_FRAME: u32 = 256;

/// A page that is lent, and a place to map it at.
#[derive(Debug)]
pub(crate) struct Lender {
    dom: u16,
    place: Vaddr,
}

impl Lender {
    /// Lends a frame of the bench. `None` if its place can't be had.
    pub(crate) fn new(fixture: &mut TableFixture, table: &GrantTable, dom: u16) -> Option<Lender> {
        let (page, place) = (fixture.lose(), fixture.lose());
        let lender = Lender { dom, place: fixture.va(place) };
        table.set(REFERENCE, Forgery::entries(dom, fixture.mfn(page)).even);
        lender.clear().then_some(lender)
    }

    /// Empties the place. The mappings that were there can't be ended any more.
    pub(crate) fn clear(&self) -> bool {
        // SAFETY: a place of the bench, which holds nothing of Rust's.
        unsafe { raw::update_va_mapping(self.place, 0, UVMF_INVLPG) == 0 }
    }

    /// Maps so often: the last handle.
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

    /// Maps until the last handle of a frame of them is used: its number.
    pub(crate) fn use_up(&self) -> Option<u32> {
        let mut last = self.map(1)?;
        let missing = HANDLES_PER_FRAME - 1 - last % HANDLES_PER_FRAME;
        if missing > 0 {
            last = self.map(missing)?;
        }
        (last % HANDLES_PER_FRAME == HANDLES_PER_FRAME - 1).then_some(last)
    }

    /// Maps once: the handle.
    pub(crate) fn map_one(&self) -> Option<u32> {
        self.map(1)
    }

    /// Ends the mapping that is there: the status.
    pub(crate) fn unmap(&self, handle: u32) -> i16 {
        grants::unmap(handle, self.place.0)
    }
}
