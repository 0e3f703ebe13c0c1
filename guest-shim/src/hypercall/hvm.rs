//! `hvm_op`: for kernels in the hardware container.

use super::{Errno, address, call, check};
use pinfold_abi::hvm::{EvtchnUpcallVector, HVMOP_SET_EVTCHN_UPCALL_VECTOR};
use pinfold_abi::hypercall::Hypercall;

/// Sets the interrupt vector at which a vCPU is entered for events.
///
/// # Errors
///
/// -ENOSYS outside of the container, -EINVAL for a vector of an exception, -ENOENT for an unknown
/// vCPU.
///
/// # Safety
///
/// The vCPU's IDT must have a gate for the vector when it sets RFLAGS.IF.
pub unsafe fn set_upcall_vector(vcpu: u32, vector: u8) -> Result<(), Errno> {
    let argument = EvtchnUpcallVector { vcpu, vector, pad: [0; 3] };
    let args = [HVMOP_SET_EVTCHN_UPCALL_VECTOR, address(&raw const argument), 0, 0, 0];
    // SAFETY: the call reads the structure; the gate is the caller's.
    check(unsafe { call(Hypercall::HvmOp as u64, args) }).map(drop)
}
