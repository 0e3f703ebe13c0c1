//! Port I/O, and the legacy interrupt controllers, which are only ever silenced.

use x86_64::instructions::port::Port;

/// Reads a 32-bit port.
///
/// # Safety
/// Reading the port must have no effect that the caller doesn't mean.
pub unsafe fn read32(port: u16) -> u32 {
    // SAFETY: the caller knows the port.
    unsafe { Port::new(port).read() }
}

/// Writes an 8-bit port.
///
/// # Safety
/// The device behind the port must bear the write.
pub unsafe fn write8(port: u16, value: u8) {
    // SAFETY: the caller knows the port.
    unsafe { Port::new(port).write(value) }
}

/// Writes a 32-bit port.
///
/// # Safety
/// The device behind the port must bear the write.
pub unsafe fn write32(port: u16, value: u32) {
    // SAFETY: the caller knows the port.
    unsafe { Port::new(port).write(value) }
}

/// Masks every line of the two legacy interrupt controllers (8259A, operation word 1).
pub fn mask_legacy_interrupts() {
    // SAFETY: ports 0x21 and 0xa1 are the mask registers on every PC; all ones silences them.
    unsafe {
        write8(0x21, 0xff);
        write8(0xa1, 0xff);
    }
}

/// Reads an 8-bit port.
///
/// # Safety
/// Reading the port must have no effect that the caller doesn't mean.
pub unsafe fn read8(port: u16) -> u8 {
    // SAFETY: the caller knows the port.
    unsafe { Port::new(port).read() }
}
