//! Requests between CPUs: TLB flush, reschedule, `stop_machine`, halt.
//!
//! A request is stored in memory, and an IPI announces it. The receiving CPU may be
//! * in a guest: the IPI makes it exit;
//! * halted: the IPI wakes it;
//! * in the hypervisor with interrupts disabled: it polls for requests while it waits for something
//!   (`sync::ServiceIpis`) and at points of long operations; at the latest the IPI is taken when the
//!   guest resumes.

use super::percpu::{self, MAX_CPUS, cpu_number};
use super::{apic, hooks, latency, vector};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pinfold_validator::CpuSet;

/// Counts of TLB flushes that a CPU was asked for and has completed. A request increments
/// `requested`; it is served when `completed` has reached the value after the increment.
struct Flushes {
    requested: AtomicU64,
    completed: AtomicU64,
}

static FLUSHES: [Flushes; MAX_CPUS] =
    [const { Flushes { requested: AtomicU64::new(0), completed: AtomicU64::new(0) } }; MAX_CPUS];

/// Serves the requests to this CPU that can be served anywhere: TLB flushes, and the halt.
#[inline]
pub fn service_ipis() {
    let own = &FLUSHES[cpu_number()];
    // SeqCst: page walks after the flush see what the requester wrote to tables before its request.
    let requested = own.requested.load(Ordering::SeqCst);
    if own.completed.load(Ordering::Relaxed) != requested {
        if HALT_REQUESTED.load(Ordering::Relaxed) {
            halt();
        }
        hooks::pinfold_flush_guest_tlb();
        // Release: the flush precedes the count. Only this CPU stores it.
        own.completed.store(requested, Ordering::Release);
    }
    latency::serviced_ipis();
}

/// A CPU panics, and the others must halt.
static HALT_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Makes the other CPUs halt when they next serve requests: for the panic handler. It doesn't wait
/// for them, because they may wait for a lock that this CPU holds.
pub fn halt_others() {
    HALT_REQUESTED.store(true, Ordering::SeqCst);
    let own = cpu_number();
    for cpu in percpu::online().without(own).iter() {
        // A flush request, so that `service_ipis` leaves its fast path and checks HALT_REQUESTED.
        FLUSHES[cpu].requested.fetch_add(1, Ordering::SeqCst);
        apic::send(percpu::apic_id(cpu), vector::IPI);
    }
}

#[cold]
fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Flushes all guest translations from the TLBs of some CPUs, and returns when they have done so.
#[inline]
pub fn flush(cpus: CpuSet) {
    let own = cpu_number();
    let others = cpus.without(own);
    if others.is_empty() {
        if cpus.contains(own) {
            hooks::pinfold_flush_guest_tlb();
        }
    } else {
        flush_others(others, cpus.contains(own));
    }
}

/// Flushes the TLBs of `others`, and this CPU's if `and_own`. The requests are sent first, so that all
/// CPUs flush at the same time.
#[cold]
fn flush_others(others: CpuSet, and_own: bool) {
    let mut targets = [0u64; MAX_CPUS];
    for cpu in others.iter() {
        targets[cpu] = FLUSHES[cpu].requested.fetch_add(1, Ordering::SeqCst) + 1;
        apic::send(percpu::apic_id(cpu), vector::IPI);
    }
    if and_own {
        hooks::pinfold_flush_guest_tlb();
    }
    for cpu in others.iter() {
        while FLUSHES[cpu].completed.load(Ordering::Acquire) < targets[cpu] {
            service_ipis();
            core::hint::spin_loop();
        }
    }
}

/// Makes a CPU exit its guest or wake up, and look for work.
///
/// # Panics
/// If the CPU isn't online.
pub fn kick(cpu: usize) {
    percpu::set_need_resched_on(cpu);
    if cpu != cpu_number() {
        apic::send(percpu::apic_id(cpu), vector::IPI);
    }
}

/// [`stop_machine`] wants the other CPUs to park.
static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);
/// CPUs that are parked, one bit each.
static PARKED: AtomicU64 = AtomicU64::new(0);
/// Lock of [`stop_machine`].
static STOPPER: AtomicBool = AtomicBool::new(false);

/// Serves requests, and parks while another CPU runs [`stop_machine`]. To be called where this CPU
/// holds no lock and no operation is in progress.
#[inline]
pub fn quiescent_point() {
    service_ipis();
    if STOP_REQUESTED.load(Ordering::Relaxed) {
        park();
    }
}

#[cold]
fn park() {
    let own = 1 << cpu_number();
    // Release: the CPU that runs `stop_machine` sees what this one did. It pairs with the acquire
    // there; the acquire below pairs with the release there.
    PARKED.fetch_or(own, Ordering::AcqRel);
    latency::exclude(|| {
        while STOP_REQUESTED.load(Ordering::Acquire) {
            service_ipis();
            core::hint::spin_loop();
        }
    });
    PARKED.fetch_and(!own, Ordering::AcqRel);
}

/// Runs `work` while all other CPUs are parked at a [`quiescent_point`]. To be called only where this
/// CPU could call `quiescent_point`.
pub fn stop_machine<T>(work: impl FnOnce() -> T) -> T {
    while STOPPER.swap(true, Ordering::Acquire) {
        quiescent_point();
        core::hint::spin_loop();
    }
    // A CPU that has not yet left the previous `park` would count as parked.
    while PARKED.load(Ordering::Acquire) != 0 {
        service_ipis();
    }
    STOP_REQUESTED.store(true, Ordering::SeqCst);
    let own = cpu_number();
    let others = percpu::online().without(own);
    for cpu in others.iter() {
        kick(cpu);
    }
    while PARKED.load(Ordering::Acquire) & others.bits() != others.bits() {
        service_ipis();
        core::hint::spin_loop();
    }
    let result = latency::exclude(work);
    STOP_REQUESTED.store(false, Ordering::Release);
    STOPPER.store(false, Ordering::Release);
    result
}
