//! Calibration of the TSC and of the local APIC timer.
#![expect(unsafe_code, reason = "reads the port of the power-management timer")]

use super::clock::tsc;
use crate::arch::{apic, port};

/// Frequency of the ACPI power-management timer in Hz (ACPI 6.5, 4.8.3.3). It has at least 24 bits.
const PM_TIMER_HZ: u64 = 3_579_545;
const PM_TIMER_MASK: u32 = 0xff_ffff;
/// Duration of the measurement in microseconds.
const MICROSECONDS: u64 = 10_000;
/// Assumed frequency of the TSC if there is no power-management timer.
const DEFAULT_TSC_KHZ: u64 = 1_000_000;

/// Result of the calibration.
pub struct Measured {
    /// Frequency of the TSC in kHz.
    pub tsc_khz: u64,
    /// APIC timer ticks per millisecond.
    pub timer_per_ms: u64,
    /// The reference, for the log.
    pub by: &'static str,
}

/// Measures both against the power-management timer at the I/O port `pm_timer`.
pub fn measure(pm_timer: Option<u16>) -> Measured {
    let Some(timer) = pm_timer else {
        // No reference: measures the APIC timer against the assumed frequency of the TSC.
        let (start, ticks) = (tsc(), DEFAULT_TSC_KHZ * MICROSECONDS / 1000);
        apic::start_calibration();
        while tsc() - start < ticks {
            core::hint::spin_loop();
        }
        let timer_per_ms = apic::end_calibration(MICROSECONDS);
        return Measured { tsc_khz: DEFAULT_TSC_KHZ, timer_per_ms, by: "nothing (no ACPI timer)" };
    };
    // SAFETY: the FADT names the port as the timer's; reading it has no side effect.
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
