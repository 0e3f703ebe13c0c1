//! What time of day it is.

use super::clock;
use crate::arch::rtc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds since 1970 at system time 0. Written once at boot.
static AT_START: AtomicU64 = AtomicU64::new(0);

/// Asks the machine's clock.
pub fn read() {
    match rtc::seconds_since_1970() {
        Some(seconds) => {
            let now = seconds * 1_000_000_000;
            AT_START.store(now.saturating_sub(clock::now_ns()), Ordering::Relaxed);
            log::info!("time of day: {seconds} s since 1970");
        }
        None => log::warn!("the machine's clock gives no sensible time of day"),
    }
}

/// The wall clock at system time 0: seconds since 1970, and nanoseconds.
pub fn at_start() -> (u64, u32) {
    let ns = AT_START.load(Ordering::Relaxed);
    (ns / 1_000_000_000, (ns % 1_000_000_000) as u32)
}
