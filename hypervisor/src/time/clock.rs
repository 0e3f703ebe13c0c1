//! System time: nanoseconds since the start of the hypervisor, computed from the TSC by the scale that
//! guests get, so that both compute the same time.
#![expect(unsafe_code, reason = "reads the TSC")]

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_hardware::TscScale;

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
    let scale = TscScale::of_khz(tsc_khz);
    TSC_KHZ.store(tsc_khz, Ordering::Relaxed);
    SCALE.store(u64::from(scale.mul()) | u64::from(scale.shift() as u8) << 32, Ordering::Relaxed);
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
    let ticks = tsc().wrapping_sub(START.load(Ordering::Relaxed));
    tsc_scale().map_or(0, |scale| scale.to_ns(ticks))
}

/// The TSC at a system time in nanoseconds: its first value at which [`now_ns`] is that time.
pub fn tsc_at(ns: u64) -> u64 {
    let ticks = tsc_scale().map_or(u64::MAX, |scale| scale.to_ticks(ns));
    START.load(Ordering::Relaxed).saturating_add(ticks)
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

/// The scale, if the frequency is known.
fn tsc_scale() -> Option<TscScale> {
    let (mul, shift) = scale();
    TscScale::from_parts(mul, shift)
}
