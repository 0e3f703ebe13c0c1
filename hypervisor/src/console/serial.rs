//! The first serial port. One line is written under one lock, so lines are never mixed.

use core::fmt;
use crate::sync::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3f8;

static PORT: Mutex<Option<Uart16550<PioBackend>>> = Mutex::new(None);

/// Finds and sets up the port; without one the log goes nowhere.
pub fn init() {
    // SAFETY: COM1 is a serial port or nothing on every PC, and nobody else drives it.
    let Ok(mut port) = (unsafe { Uart16550::new_port(COM1) }) else { return };
    if port.init(Config::default()).is_ok() {
        *PORT.lock() = Some(port);
    }
}

struct Writer<'a>(&'a mut Uart16550<PioBackend>);

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.send_bytes_exact(b"\r");
            }
            self.0.send_bytes_exact(&[byte]);
        }
        Ok(())
    }
}

/// Writes text as one piece.
pub fn write(text: fmt::Arguments<'_>) {
    if let Some(port) = PORT.lock().as_mut() {
        // The writer never fails.
        let _ = fmt::write(&mut Writer(port), text);
    }
}

/// As [`write`], but takes the port even from a holder that will never let go: for the panic
/// handler only.
pub fn write_at_any_cost(text: fmt::Arguments<'_>) {
    if PORT.is_locked() {
        // SAFETY: the machine is about to stop; mixed lines are better than none.
        unsafe { PORT.force_unlock() };
    }
    write(text);
}
