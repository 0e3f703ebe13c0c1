//! Names of address ranges, and their bitmaps of freed pages.

use crate::domain::regions::Region;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::{GuestPtr, is_guest_range};
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{BAD_ACTION, BAD_REGION};
use pinfold_abi::pinfold::{FreedMap, LazyRegion, REGION_ADD, REGION_REMOVE};

/// Adds or removes a name.
pub(super) fn run(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let asked = GuestPtr::<LazyRegion>::new(argument).read()?;
    let mut regions = vcpu.domain.regions.lock();
    match asked.action {
        REGION_ADD => {
            let start = asked.range.start;
            let bytes = asked.range.pages.checked_mul(4096).ok_or(BAD_REGION)?;
            let end = start.checked_add(bytes).ok_or(BAD_REGION)?;
            if bytes == 0 || start & 4095 != 0 || !is_guest_range(start, bytes) {
                return Err(BAD_REGION.into());
            }
            regions.add(Region { start, end, name: asked.name, freed: None })
        }
        REGION_REMOVE => regions.remove(asked.range.start),
        _ => Err(BAD_ACTION.into()),
    }
}

/// Sets the bitmap of freed pages of a range. The address is checked at each use.
pub(super) fn set_freed(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let asked = GuestPtr::<FreedMap>::new(argument).read()?;
    let bits = (asked.bits != 0).then_some(asked.bits);
    vcpu.domain.regions.lock().set_freed(asked.start, bits)
}
