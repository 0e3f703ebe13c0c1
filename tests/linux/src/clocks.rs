//! Clocks: time that never goes back on any processor, sleeps that last as long as they should.

use crate::os;
use crate::{Outcome, must};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn run(rounds: u64) -> Outcome {
    let looks = forward(Duration::from_millis(30 * rounds))?;
    sleeps(rounds)?;
    alike(Duration::from_millis(100 * rounds))?;
    Ok(format!("looked={} slept={rounds}", looks > 0))
}

/// On all processors at once, each look at the clock must be no earlier than any look before it.
fn forward(long: Duration) -> Result<u64, String> {
    let start = Instant::now();
    let latest = AtomicU64::new(0);
    let now = || start.elapsed().as_nanos() as u64;
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..os::processors())
            .map(|processor| {
                let (latest, now) = (&latest, &now);
                scope.spawn(move || {
                    os::go_to(processor);
                    let mut looks = 0u64;
                    while start.elapsed() < long {
                        let before = latest.load(Ordering::SeqCst);
                        let time = now();
                        must!(
                            time >= before,
                            "the clock of processor {processor} is {} ns behind another's",
                            before - time
                        );
                        latest.fetch_max(time, Ordering::SeqCst);
                        looks += 1;
                    }
                    Ok(looks)
                })
            })
            .collect();
        let mut looks = 0;
        for watcher in watchers {
            looks += watcher.join().map_err(|_| "a thread panicked".to_owned())??;
        }
        Ok(looks)
    })
}

/// A sleep is never shorter than asked, nor much longer, on each processor.
fn sleeps(rounds: u64) -> Result<(), String> {
    let asked = Duration::from_millis(15);
    for round in 0..rounds {
        os::go_to(round as usize % os::processors());
        let before = Instant::now();
        thread::sleep(asked);
        let slept = before.elapsed();
        must!(slept >= asked, "a sleep of {asked:?} took {slept:?}");
        // Where nothing else wakes the processor, a lost timer sleeps for ever.
        must!(slept < Duration::from_secs(5), "a sleep of {asked:?} took {slept:?}");
    }
    os::go_anywhere(os::processors());
    Ok(())
}

/// The wall clock is set, and goes as fast as the other one.
fn alike(long: Duration) -> Result<(), String> {
    /// The first of January 2024.
    const RECENT: Duration = Duration::from_secs(1_704_067_200);
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (before, started) = (wall(), Instant::now());
    must!(before > RECENT, "the wall clock is not set: {before:?} since 1970");
    thread::sleep(long);
    let (by_wall, by_clock) = (wall().saturating_sub(before), started.elapsed());
    let apart = by_wall.abs_diff(by_clock);
    must!(
        apart < long / 20 + Duration::from_millis(5),
        "{by_wall:?} by the wall clock while {by_clock:?} went by"
    );
    Ok(())
}
