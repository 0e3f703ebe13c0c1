//! The first serial port: sends the contents of the log buffer, and receives input.
//!
//! | phase                  | a writer                                                         |
//! |------------------------|------------------------------------------------------------------|
//! | before domains run     | waits for the port: there is one CPU, and no interrupt           |
//! | while domains run      | copies to the buffer, and never waits                            |
//! | end of the machine     | waits until everything is sent                                   |
//! | panic (`in_panic`)     | waits, and takes over port and buffer from whoever holds them    |
//!
//! While domains run, the FIFO of 16 bytes is filled whenever it is empty: after a record is written,
//! at an interrupt because the FIFO has become empty, and when a CPU looks for its next vCPU. An
//! emulated port is empty again at once; then one step sends a bounded number of bytes. One CPU works
//! on the port at a time; others leave a request to it.
//!
//! A port that accepts no byte for 5 seconds is considered stuck: no CPU waits for it any more, and
//! guest output is dropped, until it accepts a byte again. If the machine stops without an end or a
//! panic (triple fault, power loss), the contents of the buffer are lost.
//!
//! In a virtual machine with a virtio console (`virtio`) all output goes through that, since each byte that
//! is written to a virtual UART costs an exit. It is not used before the memory map is known. Input always
//! comes by the UART.

mod in_panic;
mod port;
mod state;
mod virtio;

use crate::arch::ipi;
use core::sync::atomic::{AtomicBool, Ordering, fence};
pub use in_panic::write_in_panic;
use port::{FIFOS_PER_STEP, PORT, Port, StallTimer, take_bytes};
use state::{INTERRUPTS, PANICKING, POLLED, SPACE_FREED, STUCK};
pub use virtio::{FoundConsole, SHARED_BYTES, VirtioConsole};

/// Steps that one CPU does in a row because others write meanwhile.
const STEPS: usize = 4;

/// There is a port.
static PRESENT: AtomicBool = AtomicBool::new(false);
/// Writers wait for the port.
static SYNCHRONOUS: AtomicBool = AtomicBool::new(true);
/// A CPU has written to the buffer or polled, and the port has not been served since.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Input could not be received because another CPU was using the port: it must interrupt again.
static RETRIGGER: AtomicBool = AtomicBool::new(false);
/// There are bytes to send.
static BACKLOG: AtomicBool = AtomicBool::new(false);

/// Detects and initialises the port. Without a port the log is discarded.
pub fn init() {
    if let Some(port) = Port::open() {
        *PORT.lock() = Some(port);
        PRESENT.store(true, Ordering::Relaxed);
    }
}

/// Sends by a virtio console from now on, once the port has sent all bytes. Without a port the console
/// is not used.
pub fn use_console(console: VirtioConsole) {
    flush_until(Until::Sent);
    if let Some(port) = PORT.lock().as_mut() {
        port.send_by(console);
    }
}

/// Whether there is a port.
pub fn is_present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// To be called when the port's interrupt is routed to a CPU.
pub fn enable_interrupts() {
    INTERRUPTS.store(true, Ordering::Relaxed);
}

/// Makes writers not wait for the port any more, because domains are about to run.
pub fn set_asynchronous() {
    SYNCHRONOUS.store(false, Ordering::Relaxed);
}

/// Whether a CPU panics. Then only that CPU may use port and buffer.
pub fn is_panicking() -> bool {
    PANICKING.load(Ordering::Relaxed)
}

/// Whether the port is considered stuck.
pub fn is_stuck() -> bool {
    STUCK.load(Ordering::Relaxed)
}

/// Whether guests that wait for space in the buffer should try again. Resets the flag.
pub fn take_space_freed() -> bool {
    SPACE_FREED.load(Ordering::Relaxed) && SPACE_FREED.swap(false, Ordering::Relaxed)
}

/// Whether there are bytes to send and the port can't interrupt when it is ready: then an idle CPU polls
/// it.
pub fn needs_polling() -> bool {
    (POLLED.load(Ordering::Relaxed) || !INTERRUPTS.load(Ordering::Relaxed))
        && BACKLOG.load(Ordering::Relaxed)
        && !STUCK.load(Ordering::Relaxed)
}

/// To be called after a write to the buffer: sends, or waits until everything is sent.
pub fn on_append() {
    if SYNCHRONOUS.load(Ordering::Relaxed) {
        flush_until(Until::Accepted);
    } else {
        transmit(TransmitReason::Written);
    }
}

/// Why [`transmit`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitReason {
    /// The buffer was written to.
    Written,
    /// The port may have interrupted.
    Polled,
}

/// Sends what the port accepts at once. Never waits, neither for the port nor for its lock.
pub fn transmit(reason: TransmitReason) {
    // SeqCst: the request precedes the attempt to lock. A CPU that finds the port locked leaves its
    // request to the holder, who checks for requests after unlocking.
    REQUESTED.store(true, Ordering::SeqCst);
    for step in 1..=STEPS {
        if !REQUESTED.load(Ordering::SeqCst) || PANICKING.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut locked) = PORT.try_lock() else {
            if reason == TransmitReason::Polled && !RETRIGGER.swap(true, Ordering::Relaxed) {
                // The holder may have checked RETRIGGER already.
                REQUESTED.store(true, Ordering::SeqCst);
                continue;
            }
            return;
        };
        let Some(port) = locked.as_mut() else { return };
        REQUESTED.store(false, Ordering::SeqCst);
        port.fill();
        // After the last step the interrupt or an idle CPU continues, because others may write all the
        // time.
        let backlog = port.has_backlog() || step == STEPS;
        BACKLOG.store(backlog, Ordering::Relaxed);
        let polled = reason == TransmitReason::Polled && port.is_armed();
        let retrigger = RETRIGGER.swap(false, Ordering::Relaxed) || polled;
        port.arm(backlog, retrigger);
        drop(locked);
        // Unlocking is a plain store, and the load of REQUESTED must not overtake it: a CPU that found
        // the port locked just before has left a request.
        fence(Ordering::SeqCst);
    }
}

/// Receives input. Returns the number of bytes: 0 also if another CPU is using the port, which then
/// makes the port interrupt again.
pub fn receive(to: &mut [u8]) -> usize {
    let locked = PORT.try_lock().or_else(|| {
        RETRIGGER.store(true, Ordering::Relaxed);
        REQUESTED.store(true, Ordering::SeqCst);
        PORT.try_lock()
    });
    locked.and_then(|mut port| port.as_mut().map(|port| port.receive(to))).unwrap_or(0)
}

/// What a flush waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The port has accepted all bytes.
    Accepted,
    /// The port has sent all bytes.
    Sent,
}

/// Waits until all bytes are accepted or sent, or the port is stuck.
fn flush_until(until: Until) {
    let mut stall_timer = StallTimer::new();
    loop {
        {
            let mut locked = PORT.lock();
            let Some(port) = locked.as_mut() else { return };
            for _ in 0..FIFOS_PER_STEP {
                if !port.send(take_bytes) {
                    break;
                }
                stall_timer = StallTimer::new();
            }
            let accepted = !port.has_backlog();
            BACKLOG.store(!accepted, Ordering::Relaxed);
            if accepted && (until == Until::Accepted || port.is_idle()) {
                return;
            }
        }
        if !SYNCHRONOUS.load(Ordering::Relaxed) {
            ipi::service_ipis();
        }
        if is_stuck() || !stall_timer.is_running() {
            STUCK.store(true, Ordering::Relaxed);
            return;
        }
    }
}

/// Waits until the port has accepted all bytes, so that the buffer is empty.
pub fn flush() {
    flush_until(Until::Accepted);
}

/// Waits until everything is sent, before the machine ends. If another CPU panics, doesn't return: that
/// CPU ends the machine. `panicking`: this CPU panics.
pub fn finish(panicking: bool) {
    if panicking {
        in_panic::finish();
        return;
    }
    flush_until(Until::Sent);
    while PANICKING.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}
