//! Output of a panic: the panicking CPU takes over port and log buffer from whoever holds them.
#![expect(unsafe_code, reason = "port and buffer are used without their locks")]

use super::super::buffer::{BUFFER, Buffer};
use super::port::{PORT, Port, StallTimer};
use super::state::PANICKING;
use crate::sync::FairMutex;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::TicketMutexGuard;
use uart_16550::spec::FIFO_SIZE;

/// Attempts to take a lock that its holder may never release: at least 20 ms, ten times as long as a
/// running holder keeps it.
const SEIZE_TRIES: u64 = 1_000_000;

/// The panicking CPU has taken over the port.
static SEIZED: AtomicBool = AtomicBool::new(false);
/// The panicking CPU waits until everything is sent.
static FINISHING: AtomicBool = AtomicBool::new(false);

/// Waits until the message of the panic is sent.
pub(super) fn finish() {
    // A second call means that the first one panicked.
    if let Some(port) = seize_port().filter(|_| !FINISHING.swap(true, Ordering::Relaxed)) {
        let mut stall_timer = StallTimer::new();
        while !port.is_idle() && stall_timer.is_running() {}
    }
}

/// Sends the contents of the buffer and then a text, whoever holds the locks of port and buffer. For
/// the panic handler only.
pub fn write_in_panic(text: fmt::Arguments<'_>) {
    let first = !PANICKING.swap(true, Ordering::SeqCst);
    let Some(port) = seize_port() else { return };
    let mut out = Direct { port, stall_timer: StallTimer::new() };
    if first {
        // SAFETY: `seize` has got the lock, or its holder never continues: the other CPUs were halted
        // ([`crate::panic`]). The buffer is valid in whatever state its writer was stopped.
        let buffer = unsafe { &mut *seize(&BUFFER) };
        out.send_all(buffer);
        out.send(if buffer.take_incomplete() { pinfold_log::CANCEL } else { b"\r\n" });
    }
    // The writer never fails.
    let _ = fmt::write(&mut out, text);
}

/// Takes over the port.
fn seize_port() -> Option<&'static mut Port> {
    let first = !SEIZED.swap(true, Ordering::Relaxed);
    let port = if first { seize(&PORT) } else { PORT.as_mut_ptr() };
    // SAFETY: `seize` has got the lock, or its holder never continues; this CPU keeps no reference of
    // an earlier call. The port is valid in whatever state its holder was stopped.
    unsafe { (*port).as_mut() }
}

/// Takes a lock without ever releasing it, or takes over its contents from the holder. Only for a CPU
/// that is about to stop the machine. A holder that continues to run releases the lock much earlier
/// than this gives up; one that doesn't has been halted, or is this CPU itself.
fn seize<T>(lock: &'static FairMutex<T>) -> *mut T {
    for _ in 0..SEIZE_TRIES {
        if let Some(guard) = lock.try_lock() {
            return TicketMutexGuard::leak(guard);
        }
        core::hint::spin_loop();
    }
    lock.as_mut_ptr()
}

/// Writes to the port without the buffer.
struct Direct {
    port: &'static mut Port,
    stall_timer: StallTimer,
}

impl Direct {
    /// Sends the staged bytes and the contents of the buffer.
    fn send_all(&mut self, buffer: &mut Buffer) {
        let mut left = buffer.len() + FIFO_SIZE;
        while left > 0 {
            if self.port.send(|to| buffer.read(to)) {
                self.stall_timer = StallTimer::new();
                left = left.saturating_sub(1);
            } else if !self.port.is_full() || !self.stall_timer.is_running() {
                return;
            }
        }
    }

    /// Sends bytes.
    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        // Bytes that an interrupted `Port::send` left staged come first.
        while !rest.is_empty() || self.port.is_full() {
            let next = |to: &mut [u8]| {
                let count = rest.len().min(to.len());
                let (now, later) = rest.split_at(count);
                to[..count].copy_from_slice(now);
                rest = later;
                count
            };
            if self.port.send(next) {
                self.stall_timer = StallTimer::new();
            } else if !self.stall_timer.is_running() {
                return;
            }
        }
    }
}

impl fmt::Write for Direct {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            match piece.strip_suffix('\n') {
                Some(line) => {
                    self.send(line.as_bytes());
                    self.send(b"\r\n");
                }
                None => self.send(piece.as_bytes()),
            }
        }
        Ok(())
    }
}
