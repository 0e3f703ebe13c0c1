//! Ports to which this vCPU sends itself, and a record of what was handled.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use pinfold_guest::entry::event::{self, depth};
use pinfold_guest::entry::percpu;
use pinfold_guest::hypercall::event::{Port, bind_ipi, close};
use pinfold_guest::shared::ports;

/// Ports, in the order in which their handlers were called.
static ORDER: [AtomicU32; 16] = [const { AtomicU32::new(0) }; 16];
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);

/// Clears the record.
pub(crate) fn reset() {
    HANDLED.store(0, SeqCst);
    DEEPEST.store(0, SeqCst);
}

/// Returns how many events were handled since the last reset.
pub(crate) fn handled() -> usize {
    HANDLED.load(SeqCst)
}

/// Returns the port whose event was handled at this place of the order.
pub(crate) fn at(place: usize) -> Port {
    Port(ORDER[place].load(SeqCst))
}

/// Returns the deepest nesting of handlers since the last reset.
pub(crate) fn deepest() -> u32 {
    DEEPEST.load(SeqCst)
}

/// A handler that records the port.
pub(crate) fn note(port: Port) {
    let place = HANDLED.fetch_add(1, SeqCst);
    if let Some(slot) = ORDER.get(place) {
        slot.store(port.0, SeqCst);
    }
    DEEPEST.fetch_max(depth(), SeqCst);
}

/// Binds a port of this vCPU with this handler.
pub(crate) fn bind_port_with(handler: event::Handler) -> Port {
    let port = bind_ipi(percpu::this().id()).expect("a port");
    event::handle(port, percpu::this(), handler);
    port
}

/// Binds a port of this vCPU whose events are recorded.
pub(crate) fn bind_port() -> Port {
    bind_port_with(note)
}

/// Closes a port.
pub(crate) fn close_port(port: Port) {
    close(port).expect("the port is in use");
    clear_port(port);
}

/// Clears what a closed port leaves behind: its mask bit would be that of the next port.
pub(crate) fn clear_port(port: Port) {
    event::clear_pending(port);
    event::forget(port, percpu::this());
    if let Some(shared) = event::shared() {
        ports::clear(&shared.mask, port.0);
    }
}

/// A counter.
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub(crate) fn add(&self) -> u64 {
        self.0.fetch_add(1, SeqCst)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(SeqCst)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, SeqCst);
    }
}
