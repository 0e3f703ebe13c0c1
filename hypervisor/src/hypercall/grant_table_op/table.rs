//! The grant table itself: size, frames, version.

use super::elements::Preempted;
use crate::domain::vcpu::Vcpu;
use crate::grant;
use crate::memory::frames;
use crate::memory::guest::{GuestPtr, is_guest_range};
use pinfold_abi::errno::Errno;
use pinfold_abi::grant::{
    GetStatusFrames, GetVersion, QuerySize, SetupTable, Status, SwapGrantRef,
};
use pinfold_core::grant::MAX_FRAMES;

/// The only version of the table.
const VERSION: u32 = 1;

/// Checks that a domid means the caller: it may not query other domains' tables.
fn own(vcpu: &Vcpu, dom: u16) -> Result<(), Status> {
    let named = grant::resolve_domid(&vcpu.domain, dom).ok_or(Status::BadDomain)?;
    if named.id == vcpu.domain.id { Ok(()) } else { Err(Status::PermissionDenied) }
}

fn code(result: Result<(), Status>) -> i16 {
    result.map_or_else(|status| status as i16, |()| Status::Okay as i16)
}

/// The table's current and maximum size.
pub(super) fn query_size(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<QuerySize>::new(argument);
    let mut asked = pointer.read()?;
    let result = own(vcpu, asked.dom);
    if result.is_ok() {
        asked.nr_frames = vcpu.domain.grants.frame_count() as u32;
        asked.max_nr_frames = MAX_FRAMES as u32;
    }
    asked.status = code(result);
    pointer.write(&asked)
}

/// Grows the table as far as the guest wants, and returns its frames.
pub(super) fn setup(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<SetupTable>::new(argument);
    let mut asked = pointer.read()?;
    let count = asked.nr_frames as usize;
    // Check the whole list before anything is done.
    if !is_guest_range(asked.frame_list, u64::from(asked.nr_frames) * 8) {
        return Err(Errno::EFAULT);
    }
    let grants = &vcpu.domain.grants;
    let result = own(vcpu, asked.dom)
        .and_then(|()| grants.grow(frames::allocator(), vcpu.domain.id, count))
        .and_then(|()| {
            let list = GuestPtr::<u64>::new(asked.frame_list);
            (0..count).try_for_each(|index| {
                let frame = grants.frame(index).ok_or(Status::GeneralError)?;
                list.write_at(index as u64, &frame.get()).map_err(|_| Status::BadVirtualAddress)
            })
        });
    asked.status = code(result);
    pointer.write(&asked)
}

/// Status frames: only version 2 has them.
pub(super) fn status_frames(argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<GetStatusFrames>::new(argument);
    let mut asked = pointer.read()?;
    asked.status = Status::GeneralError as i16;
    pointer.write(&asked)
}

/// Sets the version: 1 is the only one.
pub(super) fn set_version(argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<u32>::new(argument);
    match pointer.read()? {
        VERSION => pointer.write(&VERSION),
        2 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

/// The version of the table.
pub(super) fn version(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<GetVersion>::new(argument);
    let mut asked = pointer.read()?;
    own(vcpu, asked.dom).map_err(|status| match status {
        Status::BadDomain => Errno::ESRCH,
        _ => Errno::EPERM,
    })?;
    asked.version = VERSION;
    pointer.write(&asked)
}

/// Swaps two entries.
pub(super) fn swap(vcpu: &mut Vcpu, asked: &mut SwapGrantRef) -> Result<(), Preempted> {
    asked.status = code(vcpu.domain.grants.swap(asked.ref_a, asked.ref_b));
    Ok(())
}
