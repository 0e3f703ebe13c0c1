//! (feature `raw`) Hypercalls with any argument, for guests that test what the hypervisor forbids.
//! Results are raw: 0, or a negated error number.
//!
//! # Safety
//!
//! Every function here has the same contract: what the hypervisor does not forbid happens. The
//! caller must make sure that no memory that Rust code relies on changes its mapping or contents.
#![expect(clippy::missing_safety_doc, reason = "the module's documentation has it once for all")]
#![expect(
    unsafe_code,
    reason = "hypercalls with any argument, for tests that do what is forbidden"
)]

#[cfg(all(feature = "entry", target_os = "none"))]
pub mod grants;
#[cfg(all(feature = "entry", target_os = "none"))]
pub mod reservation;

use crate::addr::Vaddr;
use crate::hypercall::{self, Errno, address};
use pinfold_abi::domid;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::mmu::{MmuUpdate, MmuextOp};

/// Converts a raw result to what the typed calls return.
///
/// # Errors
///
/// The error number, if the result is negative.
pub fn result(raw: i64) -> Result<u64, Errno> {
    hypercall::check(raw)
}

/// Makes the call of this number.
pub unsafe fn call(number: u64, args: [u64; 5]) -> i64 {
    // SAFETY: passed on to the caller.
    unsafe { hypercall::call(number, args) }
}

/// `mmu_update` of one entry in a table of the caller.
pub unsafe fn mmu_update(ptr: u64, val: u64) -> i64 {
    // SAFETY: passed on to the caller.
    unsafe { mmu_updates(&[MmuUpdate { ptr, val }], domid::SELF.into()).0 }
}

/// `mmu_update` of a list. Returns the result, and how many were done.
pub unsafe fn mmu_updates(requests: &[MmuUpdate], foreign: u64) -> (i64, u32) {
    let mut done = 0u32;
    let list = requests.as_ptr();
    let args = [address(list), requests.len() as u64, address(&raw mut done), foreign, 0];
    // SAFETY: passed on to the caller; `done` and the list are valid.
    let result = unsafe { call(Hypercall::MmuUpdate as u64, args) };
    // SAFETY: `done` was written behind the compiler's back.
    (result, unsafe { (&raw const done).read_volatile() })
}

/// `mmuext_op` with one element.
pub unsafe fn mmuext(cmd: u32, arg1: u64, arg2: u64) -> i64 {
    // SAFETY: passed on to the caller.
    unsafe { mmuext_ops(&[MmuextOp { cmd, pad: 0, arg1, arg2 }], domid::SELF.into()).0 }
}

/// `mmuext_op` with a list. Returns the result, and how many were done.
pub unsafe fn mmuext_ops(ops: &[MmuextOp], foreign: u64) -> (i64, u32) {
    let mut done = 0u32;
    let list = ops.as_ptr();
    let args = [address(list), ops.len() as u64, address(&raw mut done), foreign, 0];
    // SAFETY: passed on to the caller; `done` and the list are valid.
    let result = unsafe { call(Hypercall::MmuextOp as u64, args) };
    // SAFETY: `done` was written behind the compiler's back.
    (result, unsafe { (&raw const done).read_volatile() })
}

/// `update_va_mapping`.
pub unsafe fn update_va_mapping(va: Vaddr, val: u64, flags: u64) -> i64 {
    // SAFETY: passed on to the caller.
    unsafe { call(Hypercall::UpdateVaMapping as u64, [va.0, val, flags, 0, 0]) }
}

/// `multicall`.
pub unsafe fn multicall(list: &mut [MulticallEntry]) -> i64 {
    let args = [address(list.as_mut_ptr()), list.len() as u64, 0, 0, 0];
    // SAFETY: passed on to the caller.
    unsafe { call(Hypercall::Multicall as u64, args) }
}
