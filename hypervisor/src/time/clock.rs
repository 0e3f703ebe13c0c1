//! System time: nanoseconds since the hypervisor started, from the TSC, by the same scale that
//! guests are given: both ends compute the same number.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

/// TSC at the start. Written once, before anyone else runs.
static START: AtomicU64 = AtomicU64::new(0);
/// Thousand ticks a second; 0 until it was measured.
static TSC_KHZ: AtomicU64 = AtomicU64::new(0);
/// The scale: fraction in the low half, shift in the high one. 0 until the rate was measured, and
/// the time stands still until then.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// The counter.
pub fn tsc() -> u64 {
    // SAFETY: every 64-bit CPU has it, and ring 0 may always read it.
    unsafe { _rdtsc() }
}

/// Starts the clock.
pub fn start() {
    START.store(tsc(), Ordering::Relaxed);
}

/// Sets the measured rate.
pub fn set_rate(tsc_khz: u64) {
    let tsc_khz = tsc_khz.max(1);
    let (mul, shift) = compute_scale(tsc_khz);
    TSC_KHZ.store(tsc_khz, Ordering::Relaxed);
    SCALE.store(u64::from(mul) | u64::from(shift as u8) << 32, Ordering::Relaxed);
}

/// The rate in thousand ticks a second.
pub fn tsc_khz() -> u64 {
    TSC_KHZ.load(Ordering::Relaxed)
}

/// The TSC at system time 0.
pub fn tsc_at_start() -> u64 {
    START.load(Ordering::Relaxed)
}

/// Nanoseconds since the start.
pub fn now_ns() -> u64 {
    let (mul, shift) = scale();
    let ticks = u128::from(tsc().wrapping_sub(START.load(Ordering::Relaxed)));
    let shifted = if shift < 0 { ticks >> shift.unsigned_abs() } else { ticks << shift };
    ((shifted * u128::from(mul)) >> 32) as u64
}

/// Lets some microseconds pass.
pub fn wait_us(us: u64) {
    let end = now_ns() + us * 1000;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}

/// The scale of the ABI's clock, `(mul, shift)`: ns = ((ticks << shift) * mul) >> 32.
pub fn scale() -> (u32, i8) {
    let scale = SCALE.load(Ordering::Relaxed);
    (scale as u32, (scale >> 32) as i8)
}

/// Nanoseconds a tick as a 0.32 fraction, brought into 2^31..2^32 by shifting.
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
