//! Time: system time, wall clock, timers, and the report of latencies.

pub mod calibration;
pub mod clock;
pub mod kvm_clock;
pub mod latency;
pub mod timer_queue;
pub mod timers;
pub mod wall_clock;

use crate::arch::apic;
use kvm_clock::KvmClock;

/// Finds out the frequencies of the TSC and of the local APIC timer ([`calibration`]).
pub fn calibrate(pm_timer: Option<u16>, kvm_clock: Option<KvmClock>) {
    let found = calibration::find(pm_timer, kvm_clock);
    clock::set_rate(found.tsc_khz);
    let timer_khz = found.timer_khz.unwrap_or(0);
    apic::set_rates(timer_khz, found.tsc_khz);
    log::info!(
        "time tsc_khz={} by={} invariant={} timer={} timer_khz={}",
        found.tsc_khz,
        found.by,
        found.invariant,
        if apic::is_in_deadline_mode() { "tsc_deadline" } else { "one_shot" },
        timer_khz
    );
    wall_clock::read();
}
