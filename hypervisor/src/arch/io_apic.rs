//! The I/O APIC. One input is used: that of the first serial port.
//!
//! Registers are accessed through an index and a data window (Intel 82093AA datasheet, 3.1 and 3.2).

use super::vector;
use core::sync::atomic::{AtomicU64, Ordering};

const INDEX: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// First register of the redirection table, which has two registers an input.
const REDIRECTION: u32 = 0x10;

/// Virtual address of the registers. Written once at boot.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

fn write(register: u32, value: u32) {
    let base = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: the caller of `route_serial` mapped the registers, and is the only one to access them.
    unsafe {
        ((base + INDEX) as *mut u32).write_volatile(register);
        ((base + WINDOW) as *mut u32).write_volatile(value);
    }
}

/// A CPU that interrupts can be routed to.
#[derive(Clone, Copy, Debug)]
pub struct Destination(u8);

impl Destination {
    /// The CPU with this APIC id. `None` if an input can't name it: there are 8 bits for it, and 255
    /// means all CPUs.
    pub fn new(apic_id: u32) -> Option<Destination> {
        u8::try_from(apic_id).ok().filter(|&id| id != u8::MAX).map(Destination)
    }
}

/// Routes an input to a CPU as [`vector::SERIAL`]: edge-triggered and active high, as ISA interrupts
/// are.
///
/// # Safety
/// The I/O APIC's registers are mapped at `registers`, uncached, for good; no other CPU calls this
/// at the same time.
pub unsafe fn route_serial(registers: u64, input: u32, to: Destination) {
    REGISTERS.store(registers, Ordering::Relaxed);
    let entry = REDIRECTION + input * 2;
    write(entry + 1, u32::from(to.0) << 24);
    write(entry, u32::from(vector::SERIAL));
}
