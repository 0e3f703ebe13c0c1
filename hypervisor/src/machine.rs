//! How a run ends.

use crate::arch::port;
use crate::console::serial;
use core::sync::atomic::{AtomicU32, Ordering};

/// What the exit port is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RunResult {
    /// Every guest ended well.
    Success = 0x10,
    /// Some guest failed, crashed or didn't start.
    Failure = 0x11,
    /// The hypervisor panicked.
    Panic = 0x12,
}

/// Port of QEMU's `isa-debug-exit`, if the manifest names one; 0: none.
static EXIT_PORT: AtomicU32 = AtomicU32::new(0);

/// Ends by a write to this port from now on.
pub fn set_exit_port(exit_port: u16) {
    EXIT_PORT.store(u32::from(exit_port), Ordering::Relaxed);
}

/// Stops the machine, when the log is on the wire: by the exit port if there is one, else for ever.
pub fn end(result: RunResult) -> ! {
    serial::finish(result == RunResult::Panic);
    let exit_port = EXIT_PORT.load(Ordering::Relaxed);
    if exit_port != 0 {
        // SAFETY: whoever wrote the manifest put a device there that ends the machine.
        unsafe { port::write32(exit_port as u16, result as u32) };
    }
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
