//! Port I/O, and masking the legacy interrupt controllers (8259A), which the hypervisor doesn't use.

use x86_64::instructions::port::Port;

/// Reads a 32-bit port.
///
/// # Safety
/// The caller intends all side effects of the read.
pub unsafe fn read32(port: u16) -> u32 {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).read() }
}

/// Writes an 8-bit port.
///
/// # Safety
/// The write must not make a device access memory that it shouldn't.
pub unsafe fn write8(port: u16, value: u8) {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).write(value) }
}

/// Reads a 16-bit port.
///
/// # Safety
/// The caller intends all side effects of the read.
pub unsafe fn read16(port: u16) -> u16 {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).read() }
}

/// Writes a 16-bit port.
///
/// # Safety
/// The write must not make a device access memory that it shouldn't.
pub unsafe fn write16(port: u16, value: u16) {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).write(value) }
}

/// Writes a 32-bit port.
///
/// # Safety
/// The write must not make a device access memory that it shouldn't.
pub unsafe fn write32(port: u16, value: u32) {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).write(value) }
}

/// Reads an 8-bit port.
///
/// # Safety
/// The caller intends all side effects of the read.
pub unsafe fn read8(port: u16) -> u8 {
    // SAFETY: the caller ensures it.
    unsafe { Port::new(port).read() }
}

/// Masks all inputs of both 8259A controllers (operation command word 1).
pub fn mask_legacy_interrupts() {
    // SAFETY: ports 0x21 and 0xa1 are the mask registers on every PC; ones mask the inputs.
    unsafe {
        write8(0x21, 0xff);
        write8(0xa1, 0xff);
    }
}
