//! The I/O interrupt controller, of which one input is used: the first serial port's.
//!
//! Registers are reached through an index and a window (Intel 82093AA datasheet, 3.1 and 3.2).

use super::vector;
use core::sync::atomic::{AtomicU64, Ordering};

const INDEX: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// First of the redirection entries, two registers each.
const REDIRECTION: u32 = 0x10;

/// Address of the registers in the hypervisor's mapping. Written once at boot.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

fn write(register: u32, value: u32) {
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: `route_serial` got the mapping of the registers; it runs once, on one CPU.
    unsafe {
        ((base + INDEX) as *mut u32).write_volatile(register);
        ((base + WINDOW) as *mut u32).write_volatile(value);
    }
}

/// Sends the interrupt of an input (edge-triggered, active high, as ISA has it) to a CPU.
/// `registers` is where the controller's page is mapped, uncached.
pub fn route_serial(registers: u64, input: u32, apic_id: u32) {
    REGISTERS.store(registers, Ordering::Relaxed);
    let entry = REDIRECTION + input * 2;
    write(entry + 1, apic_id << 24);
    write(entry, u32::from(vector::SERIAL));
}
