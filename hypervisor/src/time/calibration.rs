//! How fast the TSC and the local timer count.

use crate::arch::{apic, port};
use core::arch::x86_64::_rdtsc;

/// Rate of the ACPI power-management timer in Hz (ACPI 6.5, 4.8.3.3); 24 bits are always there.
const PM_TIMER_HZ: u64 = 3_579_545;
const PM_TIMER_MASK: u32 = 0xff_ffff;
/// How long to measure.
const MICROSECONDS: u64 = 10_000;
/// Guess where there is nothing to measure with.
const DEFAULT_TSC_KHZ: u64 = 1_000_000;

/// What was measured.
pub struct Measured {
    /// Thousand TSC ticks a second.
    pub tsc_khz: u64,
    /// Ticks of the local timer in a millisecond.
    pub timer_per_ms: u64,
    /// Against what.
    pub by: &'static str,
}

fn tsc() -> u64 {
    // SAFETY: every 64-bit CPU has it, and ring 0 may always read it.
    unsafe { _rdtsc() }
}

/// Measures for ten milliseconds.
pub fn measure(pm_timer: Option<u16>) -> Measured {
    let Some(timer) = pm_timer else {
        // Without a reference, time the local timer against the presumed TSC rate.
        let (start, ticks) = (tsc(), DEFAULT_TSC_KHZ * MICROSECONDS / 1000);
        apic::start_calibration();
        while tsc() - start < ticks {
            core::hint::spin_loop();
        }
        let timer_per_ms = apic::end_calibration(MICROSECONDS);
        return Measured { tsc_khz: DEFAULT_TSC_KHZ, timer_per_ms, by: "nothing (no ACPI timer)" };
    };
    // SAFETY: the FADT says that the port is the timer; reading it has no effect.
    let read = || unsafe { port::read32(timer) } & PM_TIMER_MASK;
    let wanted = (PM_TIMER_HZ * MICROSECONDS / 1_000_000) as u32;
    let begin = read();
    let start = tsc();
    apic::start_calibration();
    let mut elapsed = 0;
    while elapsed < wanted {
        elapsed = read().wrapping_sub(begin) & PM_TIMER_MASK;
    }
    let ticks = tsc() - start;
    let micros = u64::from(elapsed) * 1_000_000 / PM_TIMER_HZ;
    let timer_per_ms = apic::end_calibration(micros);
    Measured { tsc_khz: (ticks * 1000 / micros.max(1)).max(1), timer_per_ms, by: "ACPI timer" }
}
