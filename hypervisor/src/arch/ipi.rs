//! What CPUs ask of each other: a flush of the TLB, attention, a pause.
//!
//! Requests are counters in memory, and an interrupt says that there are some. The CPU
//! asked may be in a guest (the interrupt takes it out), asleep (it wakes), or in the hypervisor
//! with interrupts off: then it finds the request while it waits for something
//! ([`crate::sync::ServiceIpis`]), or on its way back to the guest, where the interrupt hits.

use super::percpu::{self, MAX_CPUS, cpu_number};
use super::{apic, hooks, latency, vector};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pinfold_validator::CpuSet;

/// Flushes asked of a CPU, and flushes done, both since the start: done >= the count that a
/// request drew means that a flush began after the request.
struct Flushes {
    asked: AtomicU64,
    done: AtomicU64,
}

static FLUSHES: [Flushes; MAX_CPUS] =
    [const { Flushes { asked: AtomicU64::new(0), done: AtomicU64::new(0) } }; MAX_CPUS];

/// Does what others asked of this CPU that can be done at any moment.
#[inline]
pub fn service_ipis() {
    let own = &FLUSHES[cpu_number()];
    // SeqCst: what the asker did to the tables before it asked is seen by the walks after the
    // flush.
    let asked = own.asked.load(Ordering::SeqCst);
    if own.done.load(Ordering::Relaxed) != asked {
        if HALT_REQUESTED.load(Ordering::Relaxed) {
            halt();
        }
        hooks::pinfold_flush_guest_tlb();
        // Release: who sees the count, the flush was done. Only this CPU stores it.
        own.done.store(asked, Ordering::Release);
    }
    latency::serviced_ipis();
}

/// The machine is broken: a CPU panics, and the others are to do nothing any more.
static HALT_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Has the other CPUs do nothing any more, as soon as they look: for one that panics. They may
/// hold locks, so it can't wait for them.
pub fn halt_others() {
    HALT_REQUESTED.store(true, Ordering::SeqCst);
    let own = cpu_number();
    for cpu in percpu::online().without(own).iter() {
        // Asked for a flush that is never done: it looks closer, and finds that it is to stop.
        FLUSHES[cpu].asked.fetch_add(1, Ordering::SeqCst);
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

/// Has several CPUs drop all translations of guests, and returns when they have.
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

/// The others are asked first, so that they flush while this one does.
#[cold]
fn flush_others(others: CpuSet, and_own: bool) {
    let mut tickets = [0u64; MAX_CPUS];
    for cpu in others.iter() {
        tickets[cpu] = FLUSHES[cpu].asked.fetch_add(1, Ordering::SeqCst) + 1;
        apic::send(percpu::apic_id(cpu), vector::IPI);
    }
    if and_own {
        hooks::pinfold_flush_guest_tlb();
    }
    for cpu in others.iter() {
        while FLUSHES[cpu].done.load(Ordering::Acquire) < tickets[cpu] {
            service_ipis();
            core::hint::spin_loop();
        }
    }
}

/// Makes a CPU leave its guest or its sleep, because there is work for it.
///
/// # Panics
/// If the CPU isn't online.
pub fn kick(cpu: usize) {
    percpu::set_need_resched_on(cpu);
    if cpu != cpu_number() {
        apic::send(percpu::apic_id(cpu), vector::IPI);
    }
}

/// Somebody wants the others to stand still.
static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);
/// CPUs that stand still.
static PARKED: AtomicU64 = AtomicU64::new(0);
/// Taken by who wants the others to stand still.
static STOPPER: AtomicBool = AtomicBool::new(false);

/// A moment at which this CPU holds no lock and no operation is half done: if somebody wants
/// it, it stands still here.
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
    // Release: what this CPU did is seen by the one that waits; acquire at the end: what
    // that one did is seen here.
    PARKED.fetch_or(own, Ordering::AcqRel);
    latency::exclude(|| {
        while STOP_REQUESTED.load(Ordering::Acquire) {
            service_ipis();
            core::hint::spin_loop();
        }
    });
    PARKED.fetch_and(!own, Ordering::AcqRel);
}

/// Does something while all other CPUs stand still at a [`quiescent_point`]. To be called where
/// this one could.
pub fn stop_machine<T>(work: impl FnOnce() -> T) -> T {
    while STOPPER.swap(true, Ordering::Acquire) {
        quiescent_point();
        core::hint::spin_loop();
    }
    // A CPU that still leaves the last pause would count for this one.
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
