//! The clock: it never goes back, and runs at the rate that it says.

use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
use pinfold_guest::shared::SharedPage;
use pinfold_guest::shared::clock::wall_clock;

pub(crate) fn run(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0].time;
    let (clock, tsc) = record.read(time::tsc);
    println!("EVENTS clock {clock:?} khz={} now={}", clock.tsc_khz(), clock.nanoseconds(tsc));
    check.holds("it has a scale", clock.mul != 0);
    check.within("a possible frequency", clock.tsc_khz(), 1_000..=20_000_000);
    check.holds("the record is not from the future", clock.tsc_timestamp <= tsc);

    let mut before = time::raw();
    let mut backwards = 0u64;
    for _ in 0..200_000 {
        let now = time::raw();
        backwards = backwards.max(before.saturating_sub(now));
        before = now;
    }
    // Each update of the record starts from a new reading: a tick or two may be lost.
    check.within("time does not run backwards", backwards, 0..=1_000);

    // Compares ns and TSC ticks over a time in which the record is updated.
    let (start, first) = record.read(time::tsc);
    time::spin(50_000_000);
    let (end, last) = record.read(time::tsc);
    let passed = end.nanoseconds(last) - start.nanoseconds(first);
    let ticks = last - first;
    let by_frequency = u128::from(ticks) * 1_000_000 / u128::from(start.tsc_khz().max(1));
    let by_frequency = u64::try_from(by_frequency).unwrap_or(u64::MAX);
    check.within("50 ms are at least that", passed, 50_000_000..=60_000_000_000);
    let off = passed.abs_diff(by_frequency);
    check.within("the TSC agrees", off * 1000 / passed.max(1), 0..=5);

    let (seconds, nanoseconds) = wall_clock(shared);
    println!("EVENTS wall clock at start {seconds}.{nanoseconds:09}");
    // The years 2020 to 2100.
    check.within("a date", seconds, 1_577_836_800..=4_102_444_800);
    check.within("a part of a second", nanoseconds.into(), 0..=999_999_999);
    let Some((now, _)) = time::wall_clock() else {
        check.holds("the wall clock can be read", false);
        return;
    };
    check.within("the wall clock has advanced a little", now - seconds, 0..=3600);
}
