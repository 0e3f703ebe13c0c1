//! The end of a run: result and exit of the machine.
#![expect(unsafe_code, reason = "port I/O that ends a run under QEMU")]

use crate::arch::port;
use crate::console::serial;
use core::sync::atomic::{AtomicU32, Ordering};

/// Result of a run, as written to the exit port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RunResult {
    /// All guests shut down without an error.
    Success = 0x10,
    /// A guest failed, crashed, or could not be started.
    Failure = 0x11,
    /// The hypervisor panicked.
    Panic = 0x12,
}

/// Port of QEMU's `isa-debug-exit` device, if the manifest names one; 0: none.
static EXIT_PORT: AtomicU32 = AtomicU32::new(0);

/// Makes [`end`] write to this port.
pub fn set_exit_port(exit_port: u16) {
    EXIT_PORT.store(u32::from(exit_port), Ordering::Relaxed);
}

/// Sends the rest of the log, and stops the machine: by the exit port if there is one, else by halting
/// this CPU.
pub fn end(result: RunResult) -> ! {
    serial::finish(result == RunResult::Panic);
    let exit_port = EXIT_PORT.load(Ordering::Relaxed);
    if exit_port != 0 {
        // SAFETY: the manifest says that the exit device is at this port.
        unsafe { port::write32(exit_port as u16, result as u32) };
    }
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
