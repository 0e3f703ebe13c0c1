//! `hvm_op` (`public/hvm/hvm_op.h`): what a kernel in the hardware container needs of it.

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sets the interrupt vector of a vCPU's event upcall: [`EvtchnUpcallVector`].
pub const HVMOP_SET_EVTCHN_UPCALL_VECTOR: u64 = 23;

/// The lowest vector that an upcall can have: the ones below are exceptions.
pub const FIRST_UPCALL_VECTOR: u8 = 0x20;

/// Argument of [`HVMOP_SET_EVTCHN_UPCALL_VECTOR`] (`struct xen_hvm_evtchn_upcall_vector`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EvtchnUpcallVector {
    /// Number of the vCPU.
    pub vcpu: u32,
    /// The vector, [`FIRST_UPCALL_VECTOR`] or higher.
    pub vector: u8,
    /// Ignored.
    pub pad: [u8; 3],
}
assert_layout!(EvtchnUpcallVector, size 8, vcpu @ 0, vector @ 4);
