//! The clock: it runs, never back, and as fast as it says.

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
    check.within("a frequency that is one", clock.tsc_khz(), 1_000..=20_000_000);
    check.holds("the update is not in the future", clock.tsc_timestamp <= tsc);

    let mut before = time::raw();
    let mut backwards = 0u64;
    for _ in 0..200_000 {
        let now = time::raw();
        backwards = backwards.max(before.saturating_sub(now));
        before = now;
    }
    // Each update of the record starts from a reading of its own: a tick or two may be lost.
    check.within("time does not run backwards", backwards, 0..=1_000);

    // As many ns as the ticks say, over a time in which the record is updated.
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
    // 2020 to 2100.
    check.within("a date", seconds, 1_577_836_800..=4_102_444_800);
    check.within("a part of a second", nanoseconds.into(), 0..=999_999_999);
    let Some((now, _)) = time::wall_clock() else {
        check.holds("wall clock now", false);
        return;
    };
    check.within("now is soon after", now - seconds, 0..=3600);
}
