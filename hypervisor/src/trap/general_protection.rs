//! General-protection faults of guests: `int n`, privileged instructions, or faults to deliver.

use super::emulation;
use crate::arch::vector;
use crate::domain::bounce;
use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Mode, Vcpu};
use pinfold_abi::layout::FLAT_RING3_CS32;
use pinfold_emulate::privileged;

/// Error code: the fault came through the IDT (Intel SDM vol. 3, 6.13).
const FROM_IDT: u32 = 1 << 1;
/// Bytes of `int 0x80`.
const INT80_BYTES: u64 = 2;

/// Handles a fault of the guest.
pub fn handle(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let error = vcpu.file.regs.error_code;
    if error & FROM_IDT != 0 {
        return software_interrupt(vcpu, (error >> 3) as u8, error);
    }
    if error == 0 && vcpu.mode == Mode::Kernel {
        let bytes = emulation::fetch(vcpu);
        if let Some(decoded) = privileged::decode(&bytes, &vcpu.file.regs, emulation::bases(vcpu)) {
            return emulation::emulate(vcpu, decoded);
        }
    }
    bounce::general_protection(vcpu, error)
}

/// Whether the guest's mode may raise a vector by `int n`.
fn permits(vcpu: &Vcpu, number: u8) -> bool {
    let handler = vcpu.traps[usize::from(number)];
    let privilege = if vcpu.mode == Mode::Kernel { 1 } else { 3 };
    handler.address != 0 && handler.dpl >= privilege
}

/// `int n`: faults on the hardware's gate; the guest's trap table decides.
fn software_interrupt(vcpu: &mut Vcpu, number: u8, error: u32) -> Result<(), Fatal> {
    let bytes = emulation::fetch(vcpu);
    let long_mode = vcpu.file.regs.cs != FLAT_RING3_CS32;
    match privileged::decode_interrupt(&bytes, long_mode) {
        Some((decoded, len)) if decoded == number && permits(vcpu, number) => {
            vcpu.file.regs.rip = vcpu.file.regs.rip.wrapping_add(len.into());
            bounce::exception(vcpu, number, None)
        }
        _ => bounce::general_protection(vcpu, error),
    }
}

/// `int 0x80`, which has a gate of its own that ring 3 may use.
pub fn int80(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    const NUMBER: u8 = 0x80;
    if permits(vcpu, NUMBER) {
        return bounce::exception(vcpu, NUMBER, None);
    }
    vcpu.file.regs.rip = vcpu.file.regs.rip.wrapping_sub(INT80_BYTES);
    let handler_missing = vcpu.traps[usize::from(vector::GENERAL_PROTECTION)].address == 0;
    if handler_missing {
        return Err(Fatal("int 0x80 without a handler"));
    }
    bounce::general_protection(vcpu, u32::from(NUMBER) << 3 | FROM_IDT)
}
