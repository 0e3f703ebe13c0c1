//! The timers of vCPUs. A vCPU arms its timers on the CPU on which it runs; they stay there if it
//! moves on, and expire there.

use super::Domain;
use super::shutdown_reason::ShutdownReason;
use super::vcpu_timers::Armed;
use crate::arch::percpu::cpu_number;
use crate::event::ports;
use crate::time::timer_queue::{Entry, TimerKind};
use crate::time::{clock, timers};
use pinfold_abi::event::VIRQ_TIMER;
use pinfold_abi::sched::SHUTDOWN_WATCHDOG;
use pinfold_validator::DomId;

/// Shortest period that a guest may ask for (`public/vcpu.h` names 1 ms).
pub const SHORTEST_PERIOD_NS: u64 = 1_000_000;

/// Arms a timer of a vCPU on this CPU, in place of what it was armed for.
/// `period`: nanoseconds until it fires again, 0 for once.
pub fn arm(domain: &Domain, vcpu: u16, kind: TimerKind, deadline: u64, period: u64) {
    let Some(slot) = domain.slots.get(usize::from(vcpu)) else { return };
    let cpu = cpu_number();
    {
        let mut armed = slot.timers.0.lock();
        let entry = |deadline| Entry { deadline, domain: domain.id.get(), vcpu, kind };
        if let Some(old) = armed[kind as usize].take() {
            timers::remove(old.cpu, &entry(old.deadline));
        }
        armed[kind as usize] = Some(Armed { cpu, deadline, period });
        timers::insert(cpu, entry(deadline));
    }
    timers::program();
}

/// Disarms a timer of a vCPU.
pub fn disarm(domain: &Domain, vcpu: u16, kind: TimerKind) {
    let Some(slot) = domain.slots.get(usize::from(vcpu)) else { return };
    let mut armed = slot.timers.0.lock();
    if let Some(Armed { cpu, deadline, .. }) = armed[kind as usize].take() {
        timers::remove(cpu, &Entry { deadline, domain: domain.id.get(), vcpu, kind });
    }
}

/// Disarms all timers of a vCPU.
pub fn disarm_all(domain: &Domain, vcpu: u16) {
    for kind in TimerKind::ALL {
        disarm(domain, vcpu, kind);
    }
}

/// Acts on every timer of this CPU that has expired.
pub fn expire() {
    while let Some(entry) = timers::take_due() {
        fire(entry);
    }
}

/// This CPU's APIC timer fired while a vCPU ran: acts on what has expired. True if the vCPU's time
/// slice is over.
pub fn tick() -> bool {
    expire();
    let over = timers::is_slice_over();
    if !over {
        timers::program();
    }
    over
}

fn fire(entry: Entry) {
    // The domain may have been destroyed since: this timer had already left the queue.
    let Some(domain) = super::find(DomId::new(entry.domain)) else { return };
    let Some(slot) = domain.slots.get(usize::from(entry.vcpu)) else { return };
    {
        let mut all = slot.timers.0.lock();
        let timer = &mut all[entry.kind as usize];
        match timer {
            Some(armed) if armed.deadline == entry.deadline && armed.cpu == cpu_number() => {
                // Firings that were missed are skipped; the phase is kept.
                let late = clock::now_ns().saturating_sub(armed.deadline);
                match late.checked_div(armed.period) {
                    None => *timer = None,
                    Some(missed) => {
                        let periods = (missed + 1).saturating_mul(armed.period);
                        armed.deadline = armed.deadline.saturating_add(periods);
                        timers::insert(armed.cpu, Entry { deadline: armed.deadline, ..entry });
                    }
                }
            }
            // Armed again since.
            _ => return,
        }
    }
    match entry.kind {
        TimerKind::Poll => slot.kick(),
        TimerKind::Lifetime => domain.destroy("its lifetime, as the manifest has it, is over"),
        TimerKind::Watchdog1 | TimerKind::Watchdog2 => {
            domain.end(ShutdownReason::Shutdown(SHUTDOWN_WATCHDOG));
        }
        TimerKind::Singleshot | TimerKind::Periodic => {
            ports::raise_virq(&domain, VIRQ_TIMER, entry.vcpu);
        }
    }
}
