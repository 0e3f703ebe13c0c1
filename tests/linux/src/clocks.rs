//! Clocks: time never goes back on any processor, and sleeps last as long as asked.

use crate::os;
use crate::{Outcome, ensure};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn run(rounds: u64) -> Outcome {
    let reads = check_monotonic(Duration::from_millis(30 * rounds))?;
    check_sleeps(rounds)?;
    compare_clocks(Duration::from_millis(100 * rounds))?;
    Ok(format!("read={} slept={rounds}", reads > 0))
}

/// Reads the monotonic clock on all processors at once. No reading may be earlier than one that
/// another processor has published before it. Returns the number of readings.
fn check_monotonic(duration: Duration) -> Result<u64, String> {
    let start = Instant::now();
    let latest = AtomicU64::new(0);
    let now = || start.elapsed().as_nanos() as u64;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..os::processors())
            .map(|processor| {
                let (latest, now) = (&latest, &now);
                scope.spawn(move || {
                    os::move_to(processor);
                    let mut reads = 0u64;
                    while start.elapsed() < duration {
                        let before = latest.load(Ordering::SeqCst);
                        let time = now();
                        ensure!(
                            time >= before,
                            "the clock of processor {processor} is {} ns behind another's",
                            before - time
                        );
                        latest.fetch_max(time, Ordering::SeqCst);
                        reads += 1;
                    }
                    Ok(reads)
                })
            })
            .collect();
        let mut reads = 0;
        for reader in readers {
            reads += reader.join().map_err(|_| "a thread panicked".to_owned())??;
        }
        Ok(reads)
    })
}

/// Sleeps on each processor in turn: never shorter than asked, and not much longer.
fn check_sleeps(rounds: u64) -> Result<(), String> {
    let asked = Duration::from_millis(15);
    for round in 0..rounds {
        os::move_to(round as usize % os::processors());
        let before = Instant::now();
        thread::sleep(asked);
        let slept = before.elapsed();
        ensure!(slept >= asked, "a sleep of {asked:?} took {slept:?}");
        // A lost timer interrupt delays the wake-up until something else wakes the processor.
        ensure!(slept < Duration::from_secs(5), "a sleep of {asked:?} took {slept:?}");
    }
    os::run_anywhere(os::processors());
    Ok(())
}

/// Checks that the wall clock is set, and advances as fast as the monotonic clock.
fn compare_clocks(duration: Duration) -> Result<(), String> {
    /// The first of January 2024.
    const RECENT: Duration = Duration::from_secs(1_704_067_200);
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The host may stop the processor between two readings. So the wall clock is read between two
    // readings of the monotonic clock, both times, and must have advanced by something in between.
    let outer = Instant::now();
    let before = wall();
    let inner = Instant::now();
    ensure!(before > RECENT, "the wall clock is not set: {before:?} since 1970");
    thread::sleep(duration);
    let least = inner.elapsed();
    let wall = wall().saturating_sub(before);
    let most = outer.elapsed();
    let tolerance = duration / 20 + Duration::from_millis(5);
    ensure!(
        least < wall + tolerance && wall < most + tolerance,
        "the wall clock advanced by {wall:?}, the monotonic clock by {least:?} to {most:?}"
    );
    Ok(())
}
