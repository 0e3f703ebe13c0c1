//! The real-time clock (RTC) of the PC (Motorola MC146818, ports 0x70 and 0x71): gives the wall-clock
//! time at boot. It is assumed to run in UTC.

use super::port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

/// Status A: an update is in progress.
const UPDATING: u8 = 1 << 7;
/// Status B: registers are binary, not BCD.
const BINARY: u8 = 1 << 2;
/// Status B: 24-hour mode.
const HOURS_24: u8 = 1 << 1;
/// Hours register in 12-hour mode: PM.
const PM: u8 = 1 << 7;

/// Attempts to get two equal readings in a row.
const TRIES: usize = 1000;

fn register(index: u8) -> u8 {
    // SAFETY: the two ports belong to the RTC on every PC; writing the index only selects a register.
    unsafe {
        port::write8(INDEX, index);
        port::read8(DATA)
    }
}

/// Seconds since 1970-01-01 00:00 UTC, or `None` if the RTC is missing or its time is invalid.
pub fn seconds_since_1970() -> Option<u64> {
    let all = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR];
    let mut last = None;
    for _ in 0..TRIES {
        if register(STATUS_A) & UPDATING != 0 {
            continue;
        }
        let reading = all.map(register);
        if last == Some(reading) {
            return convert(reading, register(STATUS_B));
        }
        last = Some(reading);
    }
    None
}

/// Converts the six registers to seconds since 1970. `status` is status register B.
fn convert(reading: [u8; 6], status: u8) -> Option<u64> {
    let number =
        |raw: u8| u64::from(if status & BINARY != 0 { raw } else { (raw >> 4) * 10 + (raw & 0xf) });
    let [seconds, minutes, hours, day, month, year] = reading;
    let mut hour = number(if status & HOURS_24 != 0 { hours } else { hours & !PM });
    if status & HOURS_24 == 0 {
        hour = hour % 12 + if hours & PM != 0 { 12 } else { 0 };
    }
    let (second, minute, day, month) =
        (number(seconds), number(minutes), number(day), number(month));
    // The register has two digits, for a year of this century.
    let year = 2000 + number(year);
    let is_valid = second < 61
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month);
    is_valid.then(|| (days_since_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last day of a year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_in_years = year * 365 + year / 4 - year / 100 + year / 400;
    let days_in_months = (month * 153 + 2) / 5;
    /// Days from 0000-03-01 to 1970-01-01.
    const DAYS_TO_1970: u64 = 719_468;
    days_in_years + days_in_months + day - 1 - DAYS_TO_1970
}
