//! Time: system time, wall clock, timers, and the report of latencies.

pub mod calibration;
pub mod clock;
pub mod latency;
pub mod timer_queue;
pub mod timers;
pub mod wall_clock;

/// Measures the TSC and the local APIC timer against the ACPI power-management timer, whose port the
/// FADT names.
pub fn calibrate(pm_timer: Option<u16>) {
    let measured = calibration::measure(pm_timer);
    clock::set_rate(measured.tsc_khz);
    log::info!(
        "time tsc_khz={} timer_per_ms={} by={}",
        measured.tsc_khz,
        measured.timer_per_ms,
        measured.by
    );
    wall_clock::read();
}
