//! Vectors: exceptions (Intel SDM vol. 3, table 6-1), and the interrupts that the hypervisor uses.

use x86_64::structures::idt::ExceptionVector;

/// #DB: debug exception.
pub const DEBUG: u8 = ExceptionVector::Debug as u8;
/// NMI.
pub const NMI: u8 = ExceptionVector::NonMaskableInterrupt as u8;
/// #BP: breakpoint, `int3`.
pub const BREAKPOINT: u8 = ExceptionVector::Breakpoint as u8;
/// #OF: overflow, `into`.
pub const OVERFLOW: u8 = ExceptionVector::Overflow as u8;
/// #UD: invalid opcode.
pub const INVALID_OPCODE: u8 = ExceptionVector::InvalidOpcode as u8;
/// #NM: the FPU was used while CR0.TS is set.
pub const DEVICE_NOT_AVAILABLE: u8 = ExceptionVector::DeviceNotAvailable as u8;
/// #DF: double fault.
pub const DOUBLE_FAULT: u8 = ExceptionVector::Double as u8;
/// #GP: general protection.
pub const GENERAL_PROTECTION: u8 = ExceptionVector::GeneralProtection as u8;
/// #PF: page fault.
pub const PAGE_FAULT: u8 = ExceptionVector::Page as u8;
/// #AC: alignment check.
pub const ALIGNMENT_CHECK: u8 = ExceptionVector::AlignmentCheck as u8;
/// #MC: machine check.
pub const MACHINE_CHECK: u8 = ExceptionVector::MachineCheck as u8;

/// `int 0x80`, the system call of 32-bit Linux.
pub const INT80: u8 = 0x80;

/// Interrupt of the APIC timer.
pub const TIMER: u8 = 0xf0;
/// IPI by which CPUs send each other requests.
pub const IPI: u8 = 0xf1;
/// Interrupt of the first serial port.
pub const SERIAL: u8 = 0xf2;
/// Spurious interrupt.
pub const SPURIOUS: u8 = 0xff;

/// Whether the CPU pushes an error code for an exception that a PV guest can get (Intel SDM vol. 3,
/// table 6-1).
pub fn has_error_code(number: u8) -> bool {
    matches!(number, 8 | 10..=14 | 17)
}
