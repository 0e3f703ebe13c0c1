//! (feature `raw`) `grant_table_op`, with any argument. Grants are mapped at, and copied to, frames
//! of a fixture, which hold nothing of Rust's.

use super::{call, result};
use crate::hypercall::{Errno, event};
use alloc::vec;
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::grant::{
    COPY, Copy, GET_VERSION, GetVersion, MAP_GRANT_REF, MapFlags, MapGrantRef, QUERY_SIZE,
    QuerySize, SETUP_TABLE, SWAP_GRANT_REF, SetupTable, SwapGrantRef, TRANSFER, Transfer,
    UNMAP_AND_REPLACE, UNMAP_GRANT_REF, UnmapAndReplace, UnmapGrantRef,
};
use pinfold_abi::hypercall::Hypercall;

/// A status that no call returns.
const NONE: i16 = 77;

/// Makes the call with a list.
///
/// # Errors
///
/// The refusal of the call as a whole.
pub fn list<T>(command: u64, list: &mut [T]) -> Result<u64, Errno> {
    raw(command, list.as_mut_ptr() as u64, list.len() as u64)
}

/// Makes the call with anything.
///
/// # Errors
///
/// The refusal of the call as a whole.
pub fn raw(command: u64, argument: u64, count: u64) -> Result<u64, Errno> {
    let args = [command, argument, count, 0, 0];
    // SAFETY: the frames of the fixture hold nothing of Rust's; arguments are written behind the
    // compiler's back, but by reference.
    result(unsafe { call(Hypercall::GrantTableOp as u64, args) })
}

/// Makes the call with one element. If the call itself fails, the status is made from the errno.
fn one<T>(command: u64, element: &mut T) -> Result<(), i16> {
    match list(command, core::slice::from_mut(element)) {
        Ok(0) => Ok(()),
        Ok(_) => Err(NONE),
        Err(Errno(errno)) => Err(1000 + errno as i16),
    }
}

/// What to map, and where.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// The address to map it at.
    pub address: u64,
    /// Flags.
    pub flags: MapFlags,
    /// The granting domain.
    pub dom: u16,
    /// The entry in its table.
    pub reference: u32,
}

/// Maps a grant. Returns the handle, and the frame's machine address.
///
/// # Errors
///
/// The status, or 1000 and the errno.
pub fn map(map: Map) -> Result<(u32, u64), i16> {
    let Map { address, flags, dom, reference } = map;
    let mut asked = MapGrantRef {
        host_addr: address,
        flags: flags.bits(),
        reference,
        dom,
        status: NONE,
        ..MapGrantRef::default()
    };
    one(MAP_GRANT_REF, &mut asked)?;
    if asked.status == 0 { Ok((asked.handle, asked.dev_bus_addr)) } else { Err(asked.status) }
}

/// Unmaps a grant. Returns the status.
pub fn unmap(handle: u32, address: u64) -> i16 {
    let mut asked =
        UnmapGrantRef { host_addr: address, handle, status: NONE, ..UnmapGrantRef::default() };
    one(UNMAP_GRANT_REF, &mut asked).map_or_else(|status| status, |()| asked.status)
}

/// Unmaps a grant, and moves the mapping of another address there. Returns the status.
pub fn unmap_and_replace(handle: u32, address: u64, from: u64) -> i16 {
    let mut asked =
        UnmapAndReplace { host_addr: address, new_addr: from, handle, status: NONE, pad: 0 };
    one(UNMAP_AND_REPLACE, &mut asked).map_or_else(|status| status, |()| asked.status)
}

/// Copies. Returns the status.
pub fn copy(mut asked: Copy) -> i16 {
    asked.status = NONE;
    one(COPY, &mut asked).map_or_else(|status| status, |()| asked.status)
}

/// Transfers a frame. Returns the status.
pub fn transfer(mfn: u64, domid: u16, reference: u32) -> i16 {
    let mut asked = Transfer { mfn, domid, reference, status: NONE, ..Transfer::default() };
    one(TRANSFER, &mut asked).map_or_else(|status| status, |()| asked.status)
}

/// Swaps two entries. Returns the status.
pub fn swap(ref_a: u32, ref_b: u32) -> i16 {
    let mut asked = SwapGrantRef { ref_a, ref_b, status: NONE, pad: 0 };
    one(SWAP_GRANT_REF, &mut asked).map_or_else(|status| status, |()| asked.status)
}

/// Sets up the table with at least so many frames. Returns the first so many.
///
/// # Errors
///
/// The status, or 1000 and the errno.
pub fn setup_list(dom: u16, count: u32) -> Result<Vec<u64>, i16> {
    let mut frames = vec![0u64; count as usize];
    let mut asked = SetupTable {
        dom,
        nr_frames: count,
        status: NONE,
        frame_list: frames.as_mut_ptr() as u64,
        ..SetupTable::default()
    };
    one(SETUP_TABLE, &mut asked)?;
    // Written behind the compiler's back.
    let frames = core::hint::black_box(frames);
    if asked.status == 0 { Ok(frames) } else { Err(asked.status) }
}

/// As [`setup_list`].
///
/// # Errors
///
/// As there.
pub fn setup<const N: usize>(dom: u16) -> Result<[u64; N], i16> {
    let frames = setup_list(dom, N as u32)?;
    Ok(core::array::from_fn(|index| frames[index]))
}

/// Returns how many frames the table has and how many it can have.
///
/// # Errors
///
/// The status, or 1000 and the errno.
pub fn query(dom: u16) -> Result<(u32, u32), i16> {
    let mut asked = QuerySize { dom, status: NONE, ..QuerySize::default() };
    one(QUERY_SIZE, &mut asked)?;
    if asked.status == 0 { Ok((asked.nr_frames, asked.max_nr_frames)) } else { Err(asked.status) }
}

/// The version of a domain's table.
///
/// # Errors
///
/// The refusal.
pub fn version(dom: u16) -> Result<u32, Errno> {
    let mut asked = GetVersion { dom, ..GetVersion::default() };
    list(GET_VERSION, core::slice::from_mut(&mut asked))?;
    Ok(asked.version)
}

/// The domain's own number, as a port that is offered to the domain itself shows it.
pub fn own_number() -> Option<u16> {
    let port = event::alloc_unbound(domid::SELF).ok()?;
    let kind = event::status(port).ok()?.kind;
    event::close(port).ok()?;
    match kind {
        event::Kind::Unbound(own) => Some(own),
        _ => None,
    }
}
