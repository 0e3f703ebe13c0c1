//! The clock and the timer of the running vCPU.

use super::event;
use super::percpu::this;
use crate::hypercall::event::Port;
use crate::hypercall::{Errno, vcpu};
use crate::shared::clock::{self, Clock};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The latest time that any vCPU was given: the clocks of vCPUs may disagree.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The TSC, not read ahead of loads before it.
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register of the CPU.
    unsafe {
        core::arch::asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, nomem));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// ns since boot by this vCPU's clock; 0 before the shared page is mapped.
pub fn raw() -> u64 {
    this().record().map_or(0, |record| record.time.now(tsc))
}

/// ns since boot, never less than what any vCPU was given before.
pub fn now() -> u64 {
    let now = raw();
    LATEST.fetch_max(now, SeqCst).max(now)
}

/// This vCPU's clock, once the shared page is mapped.
pub fn clock() -> Option<Clock> {
    this().record().map(|record| record.time.read(tsc).0)
}

/// Seconds and nanoseconds since 1970, now.
pub fn wall_clock() -> Option<(u64, u32)> {
    let (seconds, nanoseconds) = clock::wall_clock(event::shared()?);
    let now = u64::from(nanoseconds) + now() % 1_000_000_000;
    Some((seconds + raw() / 1_000_000_000 + now / 1_000_000_000, (now % 1_000_000_000) as u32))
}

/// Spins for so long.
pub fn spin(nanoseconds: u64) {
    let end = raw().saturating_add(nanoseconds);
    while raw() < end {
        core::hint::spin_loop();
    }
}

/// Sleeps for so long. Unmasked events are delivered meanwhile.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn sleep(nanoseconds: u64) -> Result<(), Errno> {
    let end = raw().saturating_add(nanoseconds);
    while raw() < end {
        crate::hypercall::sched::poll(&[], end)?;
    }
    Ok(())
}

/// Sets this vCPU's timer interrupt to come once, so many ns from now.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn fire_in(nanoseconds: u64) -> Result<(), Errno> {
    vcpu::set_singleshot_timer(this().id(), raw().saturating_add(nanoseconds), 0)
}

/// Binds a port to the timer interrupt of the running vCPU.
///
/// # Errors
///
/// As [`bind_virq`](crate::hypercall::event::bind_virq).
pub fn bind_timer(handler: event::Handler) -> Result<Port, Errno> {
    let cpu = this();
    let port = crate::hypercall::event::bind_virq(pinfold_abi::event::VIRQ_TIMER, cpu.id())?;
    event::handle(port, cpu, handler);
    Ok(port)
}

/// The latest time that any vCPU was given, for tests.
pub fn latest() -> u64 {
    LATEST.load(Relaxed)
}
