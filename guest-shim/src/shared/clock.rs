//! The clock: nanoseconds computed from the TSC and a scale that the hypervisor updates.

use core::sync::atomic::Ordering::{Acquire, Relaxed};
use core::sync::atomic::{AtomicI8, AtomicU8, AtomicU32, AtomicU64, fence};
use pinfold_abi::shared_info::VcpuTimeInfo;

/// The clock record of a vCPU, as it is shared.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ClockRecord {
    /// Odd while the record is being written.
    pub version: AtomicU32,
    pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: AtomicU64,
    /// ns since boot at the last update.
    pub system_time: AtomicU64,
    /// Scale, a 0.32 fraction.
    pub mul: AtomicU32,
    /// Shift before scaling; negative is to the right.
    pub shift: AtomicI8,
    /// Bit 0: the TSC is the same on all CPUs.
    pub flags: AtomicU8,
    pad1: [u8; 2],
}
const _: () = assert!(size_of::<ClockRecord>() == size_of::<VcpuTimeInfo>());

/// One consistent state of a [`ClockRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Version of the record; even.
    pub version: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// ns since boot at the last update.
    pub system_time: u64,
    /// Scale, a 0.32 fraction.
    pub mul: u32,
    /// Shift before scaling.
    pub shift: i8,
    /// Bit 0: the TSC is the same on all CPUs.
    pub flags: u8,
}

impl Clock {
    /// ns since boot when the TSC is `tsc`. A TSC before the update counts as the one of the
    /// update.
    pub fn nanoseconds(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.tsc_timestamp);
        self.system_time.wrapping_add(self.scale(ticks))
    }

    /// Converts ticks to ns.
    pub fn scale(&self, ticks: u64) -> u64 {
        let shift = u32::from(self.shift.unsigned_abs()).min(63);
        let ticks = if self.shift < 0 { ticks >> shift } else { ticks << shift };
        ((u128::from(ticks) * u128::from(self.mul)) >> 32) as u64
    }

    /// Frequency of the TSC in kHz, or 0 if the record has no scale.
    pub fn tsc_khz(&self) -> u64 {
        let Some(khz) = (1_000_000u64 << 32).checked_div(u64::from(self.mul)) else { return 0 };
        let shift = u32::from(self.shift.unsigned_abs()).min(63);
        if self.shift < 0 { khz << shift } else { khz >> shift }
    }
}

impl ClockRecord {
    /// Reads the record and the TSC. Repeats that until the record did not change meanwhile.
    pub fn read(&self, tsc: impl Fn() -> u64) -> (Clock, u64) {
        loop {
            let version = self.version.load(Acquire);
            let clock = Clock {
                version,
                tsc_timestamp: self.tsc_timestamp.load(Relaxed),
                system_time: self.system_time.load(Relaxed),
                mul: self.mul.load(Relaxed),
                shift: self.shift.load(Relaxed),
                flags: self.flags.load(Relaxed),
            };
            let now = tsc();
            fence(Acquire);
            if version.is_multiple_of(2) && self.version.load(Relaxed) == version {
                return (clock, now);
            }
            core::hint::spin_loop();
        }
    }

    /// ns since boot.
    pub fn now(&self, tsc: impl Fn() -> u64) -> u64 {
        let (clock, now) = self.read(tsc);
        clock.nanoseconds(now)
    }
}

/// The wall clock at system time 0: seconds and nanoseconds since 1970.
pub fn wall_clock(page: &super::SharedPage) -> (u64, u32) {
    loop {
        let version = page.wc_version.load(Acquire);
        let low = page.wc_sec.load(Relaxed);
        let nanoseconds = page.wc_nsec.load(Relaxed);
        let high = page.wc_sec_hi.load(Relaxed);
        fence(Acquire);
        if version.is_multiple_of(2) && page.wc_version.load(Relaxed) == version {
            return (u64::from(high) << 32 | u64::from(low), nanoseconds);
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn record(mul: u32, shift: i8) -> ClockRecord {
        let record = ClockRecord::default();
        record.tsc_timestamp.store(1000, Relaxed);
        record.system_time.store(5_000_000, Relaxed);
        record.mul.store(mul, Relaxed);
        record.shift.store(shift, Relaxed);
        record
    }

    #[test]
    fn a_gigahertz_counts_nanoseconds() {
        // Half, shifted left by one: one ns a tick.
        let record = record(1 << 31, 1);
        assert_eq!(record.now(|| 1000), 5_000_000);
        assert_eq!(record.now(|| 1700), 5_000_700);
        assert_eq!(record.read(|| 0).0.tsc_khz(), 1_000_000);
    }

    #[test]
    fn a_fast_tsc_shifts_right() {
        // 4 GHz: a quarter of a ns a tick.
        let record = record(1 << 31, -1);
        assert_eq!(record.now(|| 1000 + 4_000_000_000), 5_000_000 + 1_000_000_000);
        assert_eq!(record.read(|| 0).0.tsc_khz(), 4_000_000);
    }

    #[test]
    fn long_times_do_not_overflow() {
        let record = record(1 << 31, 1);
        let year = 365 * 86_400 * 1_000_000_000;
        assert_eq!(record.now(|| 1000 + year), 5_000_000 + year);
    }

    #[test]
    fn a_tsc_before_the_update_is_the_update() {
        assert_eq!(record(1 << 31, 1).now(|| 3), 5_000_000);
    }

    #[test]
    fn no_scale_is_no_frequency() {
        assert_eq!(record(0, 0).read(|| 0).0.tsc_khz(), 0);
    }

    #[test]
    fn a_record_that_changes_during_the_read_is_read_again() {
        let record = record(1 << 31, 1);
        let reads = Cell::new(0);
        let now = record.now(|| {
            // The first reading meets a record half written, the second one that is through.
            match reads.replace(reads.get() + 1) {
                0 => {
                    record.version.store(1, Relaxed);
                    record.system_time.store(7_000_000, Relaxed);
                }
                1 => record.version.store(2, Relaxed),
                _ => {}
            }
            1000
        });
        assert_eq!(now, 7_000_000);
        assert_eq!(reads.get(), 3);
    }
}
