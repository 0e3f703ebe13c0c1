//! Invalid opcodes of guests: the forced-emulation prefix, or faults to deliver.

use super::emulation;
use crate::arch::vector;
use crate::domain::bounce;
use crate::domain::exit::Fatal;
use crate::domain::vcpu::Vcpu;
use pinfold_emulate::privileged::{self, Privileged};

/// Handles a fault of the guest. Forced CPUID works in guest user mode too.
pub fn handle(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let bytes = emulation::fetch(vcpu);
    match privileged::decode_forced(&bytes) {
        Some(decoded) if decoded.instruction == Privileged::Cpuid => {
            emulation::emulate(vcpu, decoded)
        }
        _ => bounce::exception(vcpu, vector::INVALID_OPCODE, None),
    }
}
