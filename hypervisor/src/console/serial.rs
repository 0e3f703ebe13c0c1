//! The first serial port: takes bytes from the log's buffer as fast as it can send them.
//!
//! Nobody waits for the port while domains run. It is given what its FIFO holds, 16 bytes, when
//! that is empty: after a record was written, when it interrupts because it has become empty, and
//! whenever a CPU looks for its next vCPU. An emulated port is empty again at once; then a
//! step goes on for a bounded number of bytes. One CPU works on the port at a time; others
//! leave their wish to it.
//!
//! | when                        | who writes                                                    |
//! |-----------------------------|---------------------------------------------------------------|
//! | until domains run           | waits for the port: there is one CPU, and no interrupt  |
//! | while domains run           | copies into the buffer, never waits                           |
//! | at the end of the machine   | waits until everything is on the wire                         |
//! | in a panic                  | the same, and takes port and buffer from whoever holds them   |
//!
//! A port that takes nothing for [`STUCK_NS`] is taken for stuck: nobody waits for it any more, and
//! what guests print is dropped instead of holding them up, until it takes something again.
//! Whatever stops the machine without an end or a panic (a triple fault, the power) loses what is in
//! the buffer.
#![expect(unsafe_code, reason = "the port, and the buffer that a panic takes from whoever has it")]

use super::buffer::{BUFFER, Buffer};
use crate::arch::ipi;
use crate::sync::FairMutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use spin::mutex::TicketMutexGuard;
use uart_16550::backend::PioBackend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3f8;
/// FIFOs that one step fills, if the port empties them at once: a few records' worth.
const FIFOS_PER_STEP: usize = 64;
/// Steps that one CPU does for others that wrote meanwhile, before it leaves them the port.
const STEPS: usize = 4;
/// Nanoseconds after which a port that takes nothing is taken for stuck.
const STUCK_NS: u64 = 5_000_000_000;
/// Looks at a port for as long as that before the clock runs: each takes about a microsecond
/// (the port is on the slow bus).
const STUCK_POLLS: u64 = 10_000_000;
/// Tries to get a lock that its holder may never give back: some 20 ms at least, and no holder that
/// goes on takes a tenth of that.
const SEIZE_TRIES: u64 = 1_000_000;

static PORT: FairMutex<Option<Port>> = FairMutex::new(None);
/// The port is there.
static PRESENT: AtomicBool = AtomicBool::new(false);
/// Who writes waits for the port.
static SYNCHRONOUS: AtomicBool = AtomicBool::new(true);
/// The port's interrupt reaches a CPU.
static INTERRUPTS: AtomicBool = AtomicBool::new(false);
/// Somebody wrote, and could not get at the port, or has not tried yet.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// What was typed could not be fetched because the port was in use: it must interrupt again.
static RETRIGGER: AtomicBool = AtomicBool::new(false);
/// Something waits to be sent.
static BACKLOG: AtomicBool = AtomicBool::new(false);
/// The port has taken nothing for a long time.
static STUCK: AtomicBool = AtomicBool::new(false);
/// A guest that waits for room may go on.
static SPACE_FREED: AtomicBool = AtomicBool::new(false);
/// A CPU panics: nobody else goes near the port.
static PANICKING: AtomicBool = AtomicBool::new(false);
/// The panicking CPU has port and buffer.
static SEIZED: AtomicBool = AtomicBool::new(false);
/// The last words of a panic are being waited for.
static FINISHING: AtomicBool = AtomicBool::new(false);

/// The port, and what it is about to send.
struct Port {
    uart: Uart16550<PioBackend>,
    /// Bytes that left the buffer and that the port hasn't taken.
    staged: ArrayVec<u8, FIFO_SIZE>,
    /// It interrupts when its FIFO is empty.
    armed: bool,
    /// When it was first seen to take nothing, since it took something.
    refuses_since: Option<u64>,
}

/// Finds and sets up the port; without one the log goes nowhere.
pub fn init() {
    // SAFETY: COM1 is a serial port or nothing on every PC, and nobody else drives it.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(COM1) }) else { return };
    // The library waits without end for the firmware's last bytes to be sent.
    let mut stall_timer = StallTimer::new();
    while !uart.lsr().contains(LSR::TRANSMITTER_EMPTY) {
        if !stall_timer.is_running() {
            return;
        }
    }
    // It interrupts for what is typed, at once: people type a byte at a time.
    let config = Config {
        interrupts: IER::DATA_READY,
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::default()
    };
    if uart.init(config).is_ok() {
        let port = Port { uart, staged: ArrayVec::new(), armed: false, refuses_since: None };
        *PORT.lock() = Some(port);
        PRESENT.store(true, Ordering::Relaxed);
    }
}

/// Whether there is a port.
pub fn is_present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// The port's interrupt is routed to a CPU.
pub fn enable_interrupts() {
    INTERRUPTS.store(true, Ordering::Relaxed);
}

/// Nobody waits for the port from now on: domains run.
pub fn set_asynchronous() {
    SYNCHRONOUS.store(false, Ordering::Relaxed);
}

/// Whether a CPU panics: then port and buffer are its alone.
pub fn is_panicking() -> bool {
    PANICKING.load(Ordering::Relaxed)
}

/// Whether the port has taken nothing for so long that nobody should wait for it.
pub fn is_stuck() -> bool {
    STUCK.load(Ordering::Relaxed)
}

/// Whether guests that wait for room should try again; once each time.
pub fn take_space_freed() -> bool {
    SPACE_FREED.load(Ordering::Relaxed) && SPACE_FREED.swap(false, Ordering::Relaxed)
}

/// Whether something waits to be sent and no interrupt will tell when it can be: a CPU that
/// has nothing else to do looks after it.
pub fn needs_polling() -> bool {
    !INTERRUPTS.load(Ordering::Relaxed)
        && BACKLOG.load(Ordering::Relaxed)
        && !STUCK.load(Ordering::Relaxed)
}

/// Something was written to the buffer.
pub fn on_append() {
    if SYNCHRONOUS.load(Ordering::Relaxed) {
        flush_until(Until::Taken);
    } else {
        transmit(TransmitReason::Written);
    }
}

/// Why the port is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitReason {
    /// Something was written.
    Written,
    /// It may have interrupted.
    Polled,
}

/// Gives the port what it takes at once. Never waits, neither for the port nor for who works on it.
pub fn transmit(occasion: TransmitReason) {
    // SeqCst: the wish first, then the lock. Who finds it taken leaves the wish to its holder, who
    // looks for one after giving the lock back.
    REQUESTED.store(true, Ordering::SeqCst);
    for step in 1..=STEPS {
        if !REQUESTED.load(Ordering::SeqCst) || PANICKING.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut locked) = PORT.try_lock() else {
            if occasion == TransmitReason::Polled && !RETRIGGER.swap(true, Ordering::Relaxed) {
                // The holder may have looked already.
                REQUESTED.store(true, Ordering::SeqCst);
                continue;
            }
            return;
        };
        let Some(port) = locked.as_mut() else { return };
        REQUESTED.store(false, Ordering::SeqCst);
        port.fill();
        let backlog = port.has_backlog();
        BACKLOG.store(backlog, Ordering::Relaxed);
        let polled = occasion == TransmitReason::Polled && port.armed;
        let retrigger = RETRIGGER.swap(false, Ordering::Relaxed) || polled;
        // Others write all the time: the interrupt sees to what comes after the last step.
        port.arm(backlog || step == STEPS, retrigger);
        drop(locked);
        // The lock is given back by a plain store, which a later load may overtake: who found it
        // taken just now has left a wish that must be seen.
        fence(Ordering::SeqCst);
    }
}

/// Takes what was typed, at most a FIFO full. Nothing, also if another CPU is at the port,
/// which then has the port interrupt again.
pub fn receive(to: &mut [u8]) -> usize {
    let locked = PORT.try_lock().or_else(|| {
        RETRIGGER.store(true, Ordering::Relaxed);
        REQUESTED.store(true, Ordering::SeqCst);
        PORT.try_lock()
    });
    locked.and_then(|mut port| port.as_mut().map(|port| port.uart.receive_bytes(to))).unwrap_or(0)
}

/// What a flush waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The port has taken everything.
    Taken,
    /// And sent it.
    Sent,
}

/// Waits until everything is written, or the port is stuck.
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
            let taken = !port.has_backlog();
            BACKLOG.store(!taken, Ordering::Relaxed);
            if taken && (until == Until::Taken || port.is_idle()) {
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

/// Waits until the port has taken all that was written: there is room for everything then.
pub fn flush() {
    flush_until(Until::Taken);
}

/// Has everything sent before the machine ends. One that ends well while another CPU panics
/// leaves the end to that one.
pub fn finish(panics: bool) {
    if panics {
        // Twice only if the first time panicked.
        if let Some(port) = seize_port().filter(|_| !FINISHING.swap(true, Ordering::Relaxed)) {
            let mut stall_timer = StallTimer::new();
            while !port.is_idle() && stall_timer.is_running() {}
        }
        return;
    }
    flush_until(Until::Sent);
    while PANICKING.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}

/// Writes what is buffered and then these words, at once, whoever is at the port or the buffer: for
/// the panic handler only.
pub fn write_in_panic(text: fmt::Arguments<'_>) {
    let first = !PANICKING.swap(true, Ordering::SeqCst);
    let Some(port) = seize_port() else { return };
    let mut out = Direct { port, stall_timer: StallTimer::new() };
    if first {
        // SAFETY: the other CPUs were stopped ([`crate::panic`]), and nobody writes to the
        // buffer any more, so that its holder stands still if the lock isn't this CPU's for
        // good; whatever state a writer was stopped in, the buffer bears it.
        let buffer = unsafe { &mut *seize(&BUFFER) };
        out.send_all(buffer);
        out.send(if buffer.take_incomplete() { pinfold_log::CANCEL } else { b"\r\n" });
    }
    // The writer never fails.
    let _ = fmt::write(&mut out, text);
}

/// The port, for the CPU that panics.
fn seize_port() -> Option<&'static mut Port> {
    let first = !SEIZED.swap(true, Ordering::Relaxed);
    let port = if first { seize(&PORT) } else { PORT.as_mut_ptr() };
    // SAFETY: the lock is this CPU's for good, or its holder was stopped, and what the port
    // was borrowed for before is over. It is plain registers, and a few bytes that are about to go
    // there: it may have been left in any state.
    unsafe { (*port).as_mut() }
}

/// Takes a lock for good, from whoever holds it; what it guards. Only for a CPU that is about
/// to stop the machine: holders give these locks back in far less time than this waits, so one that
/// doesn't never goes on, and may be this very CPU.
fn seize<T>(lock: &'static FairMutex<T>) -> *mut T {
    for _ in 0..SEIZE_TRIES {
        if let Some(guard) = lock.try_lock() {
            return TicketMutexGuard::leak(guard);
        }
        core::hint::spin_loop();
    }
    lock.as_mut_ptr()
}

impl Port {
    /// Sends as much as the port takes at once, up to a bound.
    fn fill(&mut self) {
        for _ in 0..FIFOS_PER_STEP {
            if PANICKING.load(Ordering::Relaxed) || !self.send(take_bytes) {
                return;
            }
            // An emulated port takes a while for each byte, and others may wait for a flush.
            ipi::service_ipis();
        }
    }

    /// Sends what fits into the port now, of the bytes that `take` gives. `false`: it takes nothing
    /// now, or there is nothing.
    fn send(&mut self, take: impl FnOnce(&mut [u8]) -> usize) -> bool {
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
        if sent != 0 {
            self.refuses_since = None;
            if STUCK.load(Ordering::Relaxed) {
                STUCK.store(false, Ordering::Relaxed);
            }
            return true;
        }
        let now = clock::now_ns();
        let since = *self.refuses_since.get_or_insert(now);
        if now.saturating_sub(since) > STUCK_NS && !STUCK.swap(true, Ordering::Relaxed) {
            // Who waits for room has waited long enough.
            SPACE_FREED.store(true, Ordering::Relaxed);
        }
        false
    }

    fn has_backlog(&self) -> bool {
        !self.staged.is_empty() || !BUFFER.lock().is_empty()
    }

    /// Whether the last bit has left.
    fn is_idle(&mut self) -> bool {
        self.uart.lsr().contains(LSR::TRANSMITTER_EMPTY)
    }

    /// Has the port interrupt when its FIFO is empty, or no more.
    ///
    /// `retrigger`: the line to the interrupt controller, which looks at its edges, may be up for a
    /// cause that nobody has served. It goes down with all causes masked, and up again if one is
    /// left.
    fn arm(&mut self, armed: bool, retrigger: bool) {
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

/// Takes bytes from the buffer.
fn take_bytes(to: &mut [u8]) -> usize {
    let (count, awaited) = {
        let mut buffer = BUFFER.lock();
        (buffer.read(to), buffer.take_wakeup())
    };
    if awaited {
        SPACE_FREED.store(true, Ordering::Relaxed);
    }
    count
}

/// Writes to the port without the buffer.
struct Direct {
    port: &'static mut Port,
    stall_timer: StallTimer,
}

impl Direct {
    /// What the port has staged, and all that the buffer holds now.
    fn send_all(&mut self, buffer: &mut Buffer) {
        let mut left = buffer.len() + FIFO_SIZE;
        while left > 0 {
            if self.port.send(|to| buffer.read(to)) {
                self.stall_timer = StallTimer::new();
                left = left.saturating_sub(1);
            } else if self.port.staged.is_empty() || !self.stall_timer.is_running() {
                return;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        // What a port that stopped in the middle has staged comes first.
        while !rest.is_empty() || !self.port.staged.is_empty() {
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

/// Time that is left to a port that takes nothing.
#[derive(Clone, Copy, Debug)]
struct StallTimer {
    since: u64,
    polls: u64,
}

impl StallTimer {
    fn new() -> StallTimer {
        StallTimer { since: clock::now_ns(), polls: 0 }
    }

    /// Takes one more look; whether it is worth while.
    fn is_running(&mut self) -> bool {
        core::hint::spin_loop();
        self.polls += 1;
        match clock::now_ns() {
            // The clock doesn't run yet.
            0 => self.polls < STUCK_POLLS,
            now => now.saturating_sub(self.since) < STUCK_NS,
        }
    }
}
