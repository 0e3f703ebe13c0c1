//! `sched_op`: giving up the CPU, for a while or for good.

use super::{Errno, address, call, check};
use pinfold_abi::{hypercall::Hypercall, sched};

/// How a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Exit {
    /// All went well.
    PowerOff = sched::SHUTDOWN_POWEROFF,
    /// The guest found itself, or what it tests, broken.
    Crash = sched::SHUTDOWN_CRASH,
}

/// Ends the domain.
pub fn shutdown(exit: Exit) -> ! {
    let argument = sched::Shutdown { reason: exit as u32 };
    let args = [sched::SCHEDOP_SHUTDOWN, address(&raw const argument), 0, 0, 0];
    loop {
        // SAFETY: the call only reads its argument; it does not return, and if it did, this asks
        // again.
        unsafe { call(Hypercall::SchedOp as u64, args) };
    }
}

/// Lets others run.
pub fn yield_now() -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    check(unsafe { call(Hypercall::SchedOp as u64, [sched::SCHEDOP_YIELD, 0, 0, 0, 0]) })
        .map(|_| ())
}
