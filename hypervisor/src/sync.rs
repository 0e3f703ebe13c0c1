//! Locks of the hypervisor.
//!
//! It runs with interrupts off, so a CPU that waits for a lock can't be interrupted; and
//! the holder may be waiting for that very CPU to flush its TLB. Hence who waits attends to
//! such requests meanwhile.

use crate::arch::ipi;
use spin::RelaxStrategy;

/// Waiting that attends to other CPUs' requests.
pub struct ServiceIpis;

impl RelaxStrategy for ServiceIpis {
    #[inline]
    fn relax() {
        ipi::service_ipis();
        core::hint::spin_loop();
    }
}

/// The lock that every part of the hypervisor uses.
///
/// Order, outermost first: a domain's grants; its store, console or watchdogs; its event ports (of two
/// domains, the lower number's); a slot's timers; a slot's place; its runstate; the run queue or a timer queue.
/// Outside all: what keeps typed keys in order, which is only ever tried.
/// Inside any of them: the list of domains, a domain's named regions, the free frames. Inside all:
/// a domain's budget of records, the heap, the serial port (only tried while domains run), and the
/// log's buffer.
pub type Mutex<T> = spin::mutex::Mutex<T, ServiceIpis>;

/// A lock that goes to whoever has waited longest: where many want it all the time.
pub type FairMutex<T> = spin::mutex::TicketMutex<T, ServiceIpis>;
