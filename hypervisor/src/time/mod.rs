//! Time: the clock that everything is stamped with, and the measures taken at boot.

pub mod calibration;
pub mod clock;
pub mod latency;
mod timer_queue;
pub mod timers;
pub mod wall_clock;

use crate::boot::acpi::Tables;

/// Measures the processor's counter and the timer against a timer of known rate.
pub fn calibrate(tables: &Tables) {
    let measured = calibration::measure(tables.pm_timer);
    clock::set_rate(measured.tsc_khz);
    log::info!(
        "time tsc_khz={} timer_per_ms={} by={}",
        measured.tsc_khz,
        measured.timer_per_ms,
        measured.by
    );
    wall_clock::read();
}
