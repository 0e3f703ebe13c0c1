//! The UART, and the bytes that it is about to send.
#![expect(unsafe_code, reason = "I/O ports of the UART")]

use super::super::buffer::BUFFER;
use super::state::{INTERRUPTS, PANICKING, POLLED, SPACE_FREED, STUCK};
use super::virtio::VirtioConsole;
use crate::arch::ipi;
use crate::sync::FairMutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use uart_16550::backend::PioBackend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3f8;
/// How often one step fills the FIFO, if it is empty again at once: enough for a few records.
pub(super) const FIFOS_PER_STEP: usize = 64;
/// Time in nanoseconds after which a port that accepts no byte is considered stuck.
const STUCK_NS: u64 = 5_000_000_000;
/// The same as a number of polls, while the clock doesn't run yet. A poll takes about a microsecond,
/// because of the access to an I/O port.
const STUCK_POLLS: u64 = 10_000_000;

/// The port, if there is one.
pub(super) static PORT: FairMutex<Option<Port>> = FairMutex::new(None);

/// The UART, and the bytes that it is about to send.
pub(super) struct Port {
    uart: Uart16550<PioBackend>,
    /// A faster way out than the UART.
    console: Option<VirtioConsole>,
    /// Bytes that were taken from the buffer, and that the UART hasn't accepted yet.
    staged: ArrayVec<u8, FIFO_SIZE>,
    /// The interrupt for an empty FIFO is enabled.
    armed: bool,
    /// System time in ns since when the UART has accepted no byte.
    stalled_since: Option<u64>,
}

impl Port {
    /// Detects and initialises the UART.
    pub(super) fn open() -> Option<Port> {
        // SAFETY: on every PC a serial port or nothing is at COM1, and no other code drives it.
        let mut uart = unsafe { Uart16550::new_port(COM1) }.ok()?;
        // Waits for the firmware's last bytes here, because `Uart16550::init` has no timeout.
        let mut stall_timer = StallTimer::new();
        while !uart.lsr().contains(LSR::TRANSMITTER_EMPTY) {
            if !stall_timer.is_running() {
                return None;
            }
        }
        // It interrupts at each byte that it receives: people type one at a time.
        let config = Config {
            interrupts: IER::DATA_READY,
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            ..Config::default()
        };
        uart.init(config).ok()?;
        Some(Port {
            uart,
            console: None,
            staged: ArrayVec::new(),
            armed: false,
            stalled_since: None,
        })
    }

    /// Sends by this console from now on. The UART is idle, and has no interrupts yet.
    pub(super) fn send_by(&mut self, console: VirtioConsole) {
        self.console = Some(console);
        POLLED.store(true, Ordering::Relaxed);
    }

    /// Receives input. Returns the number of bytes.
    pub(super) fn receive(&mut self, to: &mut [u8]) -> usize {
        self.uart.receive_bytes(to)
    }

    /// Sends as much as the UART accepts at once, up to a bound.
    pub(super) fn fill(&mut self) {
        for _ in 0..FIFOS_PER_STEP {
            if PANICKING.load(Ordering::Relaxed) || !self.send(take_bytes) {
                return;
            }
            // An emulated port is slow, and other CPUs may wait for a TLB flush.
            ipi::service_ipis();
        }
    }

    /// Sends what the UART or the console accepts now: staged bytes, or bytes that `take` supplies.
    /// Returns `false` if it accepts none, or there are none.
    pub(super) fn send(&mut self, take: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if let Some(console) = &mut self.console {
            return match console.send(take) {
                Some(0) => false,
                sent => self.note_progress(sent.is_some()),
            };
        }
        if self.staged.is_empty() {
            let mut bytes = [0; FIFO_SIZE];
            let count = take(&mut bytes);
            self.staged.extend(bytes.into_iter().take(count));
        }
        if self.staged.is_empty() {
            return false;
        }
        // At most 16 bytes, or one if the port has no FIFO, and only if it is empty.
        let sent = self.uart.send_bytes(&self.staged);
        self.staged.drain(..sent);
        self.note_progress(sent != 0)
    }

    /// Notes whether bytes were accepted. Returns the same.
    fn note_progress(&mut self, accepted: bool) -> bool {
        if accepted {
            self.stalled_since = None;
            if STUCK.load(Ordering::Relaxed) {
                STUCK.store(false, Ordering::Relaxed);
            }
            return true;
        }
        let now = clock::now_ns();
        let since = *self.stalled_since.get_or_insert(now);
        if now.saturating_sub(since) > STUCK_NS && !STUCK.swap(true, Ordering::Relaxed) {
            // Guests that wait for space continue, and their output is dropped.
            SPACE_FREED.store(true, Ordering::Relaxed);
        }
        false
    }

    /// Whether there are bytes to send, here or in the buffer.
    pub(super) fn has_backlog(&self) -> bool {
        !self.staged.is_empty() || !BUFFER.lock().is_empty()
    }

    /// Whether more can be sent only after what was taken before.
    pub(super) fn is_full(&mut self) -> bool {
        !self.staged.is_empty() || self.console.as_mut().is_some_and(|console| !console.can_send())
    }

    /// Whether everything that was accepted is sent.
    pub(super) fn is_idle(&mut self) -> bool {
        self.console.as_mut().is_none_or(VirtioConsole::is_idle)
            && self.uart.lsr().contains(LSR::TRANSMITTER_EMPTY)
    }

    /// Whether the interrupt for an empty FIFO is enabled.
    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Enables or disables the interrupt for an empty FIFO.
    ///
    /// `retrigger`: the interrupt line may be high for a cause that was not served, and the I/O APIC
    /// input is edge-triggered. Masking all causes makes the line low; it goes high again if a cause is
    /// still pending.
    ///
    /// A console has no such interrupt.
    pub(super) fn arm(&mut self, armed: bool, retrigger: bool) {
        let armed = armed && self.console.is_none();
        if !INTERRUPTS.load(Ordering::Relaxed) {
            return;
        }
        if retrigger {
            self.uart.disable_interrupts(IER::DATA_READY | IER::THR_EMPTY);
            let empty = if armed { IER::THR_EMPTY } else { IER::empty() };
            self.uart.enable_interrupts(IER::DATA_READY | empty);
        } else if armed && !self.armed {
            self.uart.enable_interrupts(IER::THR_EMPTY);
        } else if !armed && self.armed {
            self.uart.disable_interrupts(IER::THR_EMPTY);
        }
        self.armed = armed;
    }
}

/// Takes bytes from the log buffer.
pub(super) fn take_bytes(to: &mut [u8]) -> usize {
    let (count, space_freed) = {
        let mut buffer = BUFFER.lock();
        (buffer.read(to), buffer.take_wakeup())
    };
    if space_freed {
        SPACE_FREED.store(true, Ordering::Relaxed);
    }
    count
}

/// Timeout for a port that accepts no byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallTimer {
    since: u64,
    polls: u64,
}

impl StallTimer {
    /// Starts the timeout.
    pub(super) fn new() -> StallTimer {
        StallTimer { since: clock::now_ns(), polls: 0 }
    }

    /// Whether the timeout has not expired. To be called once per poll of the port.
    pub(super) fn is_running(&mut self) -> bool {
        core::hint::spin_loop();
        self.polls += 1;
        match clock::now_ns() {
            // The clock doesn't run yet.
            0 => self.polls < STUCK_POLLS,
            now => now.saturating_sub(self.since) < STUCK_NS,
        }
    }
}
