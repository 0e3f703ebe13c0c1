//! `sched_op`: yielding, sleeping, and the end of the domain.

use super::event::Port;
use super::{Errno, address, call, check};
use pinfold_abi::{hypercall::Hypercall, sched};

/// Most ports of one [`poll`].
pub const MAX_POLL: usize = 128;

/// Why the domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Exit {
    /// The guest has finished.
    PowerOff = sched::SHUTDOWN_POWEROFF,
    /// The guest has found a fault, in itself or in what it tests.
    Crash = sched::SHUTDOWN_CRASH,
}

/// Ends the domain.
pub fn shutdown(exit: Exit) -> ! {
    let argument = sched::Shutdown { reason: exit as u32 };
    let args = [sched::SCHEDOP_SHUTDOWN, address(&raw const argument), 0, 0, 0];
    loop {
        // SAFETY: the call only reads its argument. It does not return.
        unsafe { call(Hypercall::SchedOp as u64, args) };
    }
}

/// Yields the CPU to other vCPUs.
pub fn yield_now() -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    check(unsafe { call(Hypercall::SchedOp as u64, [sched::SCHEDOP_YIELD, 0, 0, 0, 0]) })
        .map(|_| ())
}

/// Unmasks events and sleeps until one is pending; returns at once if one is.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn block() -> Result<(), Errno> {
    // SAFETY: the call takes no pointer.
    check(unsafe { call(Hypercall::SchedOp as u64, [sched::SCHEDOP_BLOCK, 0, 0, 0, 0]) }).map(drop)
}

/// Sleeps until one of these ports is pending, masked or not, or an event can be delivered, or
/// until this system time in ns (0: for ever).
///
/// # Errors
///
/// -EINVAL for too many ports or one that is not in use.
pub fn poll(ports: &[Port], timeout: u64) -> Result<(), Errno> {
    let mut list = arrayvec::ArrayVec::<u32, MAX_POLL>::new();
    for port in ports {
        list.try_push(port.0).map_err(|_| pinfold_abi::errno::Errno::EINVAL)?;
    }
    let argument =
        sched::Poll { ports: address(list.as_ptr()), nr_ports: list.len() as u32, pad: 0, timeout };
    let args = [sched::SCHEDOP_POLL, address(&raw const argument), 0, 0, 0];
    // SAFETY: the call reads its argument and the list.
    check(unsafe { call(Hypercall::SchedOp as u64, args) }).map(drop)
}
