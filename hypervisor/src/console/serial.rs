//! The first serial port. One line is written under one lock, so lines are never mixed; what a
//! guest prints may stay unfinished, and is cancelled when something else must be said.

use crate::sync::Mutex;
use core::fmt;
use pinfold_validator::DomId;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::FifoTriggerLevel;
use uart_16550::spec::registers::IER;
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3f8;

/// Ends a line that is to be taken as not written: CAN, and a line end.
const CANCEL: &[u8] = b"\x18\r\n";

static PORT: Mutex<Option<Port>> = Mutex::new(None);

/// The port and the state of the line.
struct Port {
    uart: Uart16550<PioBackend>,
    /// Whose unfinished line stands on the wire.
    unfinished: Option<DomId>,
}

impl Port {
    fn send(&mut self, bytes: &[u8]) {
        self.uart.send_bytes_exact(bytes);
    }

    /// Makes sure that what comes next begins a line.
    fn begin_line(&mut self) {
        if self.unfinished.take().is_some() {
            self.send(CANCEL);
        }
    }
}

impl fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.send(b"\r");
            }
            self.send(&[byte]);
        }
        Ok(())
    }
}

/// Finds and sets up the port; without one the log goes nowhere.
pub fn init() {
    // SAFETY: COM1 is a serial port or nothing on every PC, and nobody else drives it.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(COM1) }) else { return };
    // It interrupts for what is typed, at once: people type a byte at a time.
    let config = Config {
        interrupts: IER::DATA_READY,
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::default()
    };
    if uart.init(config).is_ok() {
        *PORT.lock() = Some(Port { uart, unfinished: None });
    }
}

/// Writes whole lines as one piece.
pub fn write(text: fmt::Arguments<'_>) {
    if let Some(port) = PORT.lock().as_mut() {
        port.begin_line();
        // The writer never fails.
        let _ = fmt::write(port, text);
    }
}

/// A line of a guest's in the making.
pub struct Line<'a> {
    /// Whose it is.
    pub domain: DomId,
    /// What every line begins with.
    pub head: fmt::Arguments<'a>,
    /// All of it so far, without line ends.
    pub text: &'a [u8],
    /// Bytes of it that were written before.
    pub shown: usize,
    /// Nothing more comes.
    pub whole: bool,
}

/// Writes what is new of a line; all of it, if something came in between.
pub fn write_line(line: &Line<'_>) {
    let mut locked = PORT.lock();
    let Some(port) = locked.as_mut() else { return };
    if port.unfinished == Some(line.domain) {
        port.send(line.text.get(line.shown..).unwrap_or(line.text));
    } else {
        port.begin_line();
        // The writer never fails.
        let _ = fmt::write(port, line.head);
        port.send(line.text);
    }
    if line.whole {
        port.send(b"\r\n");
    }
    port.unfinished = (!line.whole).then_some(line.domain);
}

/// Takes what was typed, at most a FIFO full. Nothing, also if another CPU is at the port: it
/// keeps the bytes.
pub fn receive(to: &mut [u8]) -> usize {
    PORT.try_lock()
        .and_then(|mut port| port.as_mut().map(|port| port.uart.receive_bytes(to)))
        .unwrap_or(0)
}

/// As [`write`], but takes the port even from a holder that will never let go: for the panic
/// handler only.
pub fn write_at_any_cost(text: fmt::Arguments<'_>) {
    if PORT.is_locked() {
        // SAFETY: the machine is about to stop; mixed lines are better than none.
        unsafe { PORT.force_unlock() };
        if let Some(port) = PORT.lock().as_mut() {
            port.unfinished = None;
            port.send(b"\r\n");
        }
    }
    write(text);
}
