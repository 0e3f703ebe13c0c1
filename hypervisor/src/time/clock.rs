//! System time: nanoseconds since the start of the hypervisor, computed from the TSC by the scale that
//! guests get, so that both compute the same time.
#![expect(unsafe_code, reason = "reads the TSC")]

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

/// TSC at system time 0. Written once, before any AP starts.
static START: AtomicU64 = AtomicU64::new(0);
/// Frequency of the TSC in kHz; 0 until it is measured.
static TSC_KHZ: AtomicU64 = AtomicU64::new(0);
/// The scale: multiplier in the low half, shift in the high half. 0 until the frequency is measured;
/// until then system time is 0.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has a TSC, and ring 0 may always read it.
    unsafe { _rdtsc() }
}

/// Makes the current time system time 0.
pub fn start() {
    START.store(tsc(), Ordering::Relaxed);
}

/// Sets the frequency of the TSC.
pub fn set_rate(tsc_khz: u64) {
    let tsc_khz = tsc_khz.max(1);
    let (mul, shift) = compute_scale(tsc_khz);
    TSC_KHZ.store(tsc_khz, Ordering::Relaxed);
    SCALE.store(u64::from(mul) | u64::from(shift as u8) << 32, Ordering::Relaxed);
}

/// Frequency of the TSC in kHz.
pub fn tsc_khz() -> u64 {
    TSC_KHZ.load(Ordering::Relaxed)
}

/// The TSC at system time 0.
pub fn tsc_at_start() -> u64 {
    START.load(Ordering::Relaxed)
}

/// System time in nanoseconds.
pub fn now_ns() -> u64 {
    let (mul, shift) = scale();
    let ticks = u128::from(tsc().wrapping_sub(START.load(Ordering::Relaxed)));
    let shifted = if shift < 0 { ticks >> shift.unsigned_abs() } else { ticks << shift };
    ((shifted * u128::from(mul)) >> 32) as u64
}

/// Busy-waits.
pub fn wait_us(us: u64) {
    let end = now_ns() + us * 1000;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}

/// The scale `(mul, shift)` as the ABI defines it: ns = ((ticks << shift) * mul) >> 32.
pub fn scale() -> (u32, i8) {
    let scale = SCALE.load(Ordering::Relaxed);
    (scale as u32, (scale >> 32) as i8)
}

/// Computes the scale: nanoseconds per tick as a 0.32 fixed-point number, shifted into the range from
/// 2^31 to 2^32.
fn compute_scale(tsc_khz: u64) -> (u32, i8) {
    let mut mul = (1_000_000u128 << 32) / u128::from(tsc_khz);
    let mut shift = 0i8;
    while mul >= 1 << 32 {
        mul >>= 1;
        shift += 1;
    }
    while mul != 0 && mul < 1 << 31 {
        mul <<= 1;
        shift -= 1;
    }
    (mul as u32, shift)
}
