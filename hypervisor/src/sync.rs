//! Locks of the hypervisor.
//!
//! It runs with interrupts off, so a processor that waits for a lock can't be interrupted; and
//! the holder may be waiting for that very processor to flush its TLB. Hence who waits attends to
//! such requests meanwhile.

use crate::arch::ipi;
use spin::RelaxStrategy;

/// Waiting that attends to other processors' requests.
pub struct Attentive;

impl RelaxStrategy for Attentive {
    #[inline]
    fn relax() {
        ipi::attend();
        core::hint::spin_loop();
    }
}

/// The lock that every part of the hypervisor uses.
///
/// Order, outermost first: a domain's store; a domain's event ports, a seat's timers, a seat's place, the run queue
/// or a timer queue; a grant table or a domain's grant handles; the list of domains and the free
/// frames inside any of them; the serial port inside all.
pub type Mutex<T> = spin::mutex::Mutex<T, Attentive>;
