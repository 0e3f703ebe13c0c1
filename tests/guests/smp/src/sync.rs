//! Means for vCPUs to wait for each other.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::entry::time;
pub(crate) use pinfold_guest::entry::vcpu_pool::{MAX_VCPUS, VcpuPool, set_progress};
use pinfold_guest::hypercall::sched;

/// How long a vCPU waits for another, in ns.
const LIMIT: u64 = 25_000_000_000;

/// A flag that one vCPU raises for others.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    pub(crate) fn raise(&self) {
        self.0.store(true, SeqCst);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// Yields until a condition holds; false if that takes too long.
pub(crate) fn until(so: impl Fn() -> bool) -> bool {
    let end = time::raw() + LIMIT;
    while !so() {
        if time::raw() > end {
            return false;
        }
        let _ = sched::yield_now();
    }
    true
}
