//! `linux-selftest`: what a Linux guest does in its test besides the shell's work and XFS.
//!
//! A kernel under a hypervisor that gets something wrong boots for a long time before it shows.
//! Each exercise makes the kernel do one kind of thing very often and holds every result against
//! what it must be: a lost wake-up, a stale translation or a clobbered register is a failure, not
//! bad luck.
//!
//! | exercise | about |
//! |---|---|
//! | `threads` | locks, wake-ups between processors, being moved, floating point while preempted |
//! | `memory` | mapping, protecting, unmapping, from many threads; no stale translation |
//! | `processes` | fork storms, copy on write, exec, pipes |
//! | `signals` | exact counts, timers, faults that a handler mends |
//! | `clocks` | time that never goes back, sleeps that last |
//! | `corners` | instructions and entries into the kernel that PV treats specially |
//!
//! `linux-selftest NAME [ROUNDS]` does one and ends with a line `EXERCISE NAME ok ...` and status
//! 0, or `EXERCISE NAME failed: ...` and status 1. `ROUNDS` (10 if not given) is how long.

mod clocks;
mod corners;
mod memory;
mod os;
mod processes;
mod signals;
mod threads;

use std::process::ExitCode;

/// How an exercise ends: some figures, or what was wrong.
type Outcome = Result<String, String>;

/// Ends an exercise when something is not as it must be.
macro_rules! must {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use must;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(name) = args.first() else {
        eprintln!("usage: linux-selftest NAME [ROUNDS]");
        return ExitCode::from(2);
    };
    let rounds = args.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let outcome = match name.as_str() {
        "threads" => threads::run(rounds),
        "memory" => memory::run(rounds),
        "processes" => processes::run(rounds),
        "signals" => signals::run(rounds),
        "clocks" => clocks::run(rounds),
        "corners" => corners::run(rounds),
        // What `processes` starts.
        "leaf" => return ExitCode::from(args.get(1).map_or(0, |text| text.len() as u8)),
        _ => Err("there is no such exercise".into()),
    };
    match outcome {
        Ok(figures) => {
            println!("EXERCISE {name} ok {figures}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("EXERCISE {name} failed: {why}");
            ExitCode::FAILURE
        }
    }
}
