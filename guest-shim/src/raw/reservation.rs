//! (feature `raw`) `memory_op`: takes frames and gives them back by number, without the guest's
//! memory management. The frames hold nothing of Rust's.

use super::call;
use crate::entry::catch;
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{INVALID_M2P_ENTRY, M2P_START};
use pinfold_abi::memory::{
    DECREASE_RESERVATION, EXCHANGE, Exchange, INCREASE_RESERVATION, POPULATE_PHYSMAP, Reservation,
};

/// A list of frames, for the call to read and to write.
fn listed(list: &mut [u64]) -> Reservation {
    Reservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: list.len() as u64,
        domid: domid::SELF,
        ..Reservation::default()
    }
}

/// Makes the call. Returns how many extents were done.
fn reservation(command: u64, list: &mut [u64]) -> usize {
    let argument = listed(list);
    let args = [command, (&raw const argument) as u64, 0, 0, 0];
    // SAFETY: frames that nobody knows yet, or that no Rust memory is in; the list is written
    // behind the compiler's back, but by reference.
    let done = unsafe { call(Hypercall::MemoryOp as u64, args) };
    usize::try_from(done).unwrap_or(0)
}

/// Takes up to so many frames. Returns those that it got.
pub fn take(count: usize) -> Vec<u64> {
    let mut list = alloc::vec![0; count];
    let done = reservation(INCREASE_RESERVATION, &mut list);
    list.truncate(done);
    core::hint::black_box(list)
}

/// Takes frames for these pfns, which are replaced by the frames' numbers. Returns how many.
pub fn populate(list: &mut [u64]) -> usize {
    let done = reservation(POPULATE_PHYSMAP, list);
    core::hint::black_box(list);
    done
}

/// Gives frames back. Returns how many were accepted.
pub fn give_back(frames: &[u64]) -> usize {
    let mut list = frames.to_vec();
    reservation(DECREASE_RESERVATION, &mut list)
}

/// Exchanges frames for as many others, which get these pfns in the machine-to-physical table and
/// whose numbers replace the pfns. Returns the call's result.
pub fn exchange(given: &[u64], wanted: &mut [u64]) -> i64 {
    let mut list = given.to_vec();
    let mut argument =
        Exchange { input: listed(&mut list), output: listed(wanted), nr_exchanged: 0 };
    let args = [EXCHANGE, (&raw mut argument) as u64, 0, 0, 0];
    // SAFETY: as in `reservation`.
    let result = unsafe { call(Hypercall::MemoryOp as u64, args) };
    core::hint::black_box(wanted);
    result
}

/// The pfn of a frame in the machine-to-physical table, if its owner has set one.
pub fn pfn_of(frame: u64) -> Option<u64> {
    let entry = M2P_START.checked_add(frame.checked_mul(8)?)?;
    // SAFETY: the table is read-only memory of the hypervisor, where it is mapped at all.
    let pfn = unsafe { catch::read(entry) }.ok()?;
    (pfn != INVALID_M2P_ENTRY).then_some(pfn)
}
