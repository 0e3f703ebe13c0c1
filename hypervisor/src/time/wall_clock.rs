//! The wall clock.

use super::clock;
use crate::arch::rtc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Wall-clock time at system time 0, in nanoseconds since 1970. Written once at boot.
static AT_START: AtomicU64 = AtomicU64::new(0);

/// Reads the RTC.
pub fn read() {
    match rtc::seconds_since_1970() {
        Some(seconds) => {
            let now = seconds * 1_000_000_000;
            AT_START.store(now.saturating_sub(clock::now_ns()), Ordering::Relaxed);
            log::info!("time of day: {seconds} s since 1970");
        }
        None => log::warn!("the RTC gives no valid time of day"),
    }
}

/// The wall clock at system time 0: seconds since 1970, and nanoseconds.
pub fn at_start() -> (u64, u32) {
    let ns = AT_START.load(Ordering::Relaxed);
    (ns / 1_000_000_000, (ns % 1_000_000_000) as u32)
}
