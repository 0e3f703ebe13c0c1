//! `linux-selftest`: the part of the Linux guest's test that is not a shell script
//! (`tests/linux/rootfs/test` starts it).
//!
//! A Linux kernel may boot and run for a long time before a defect of the hypervisor shows. Each
//! exercise makes the kernel do one kind of thing very often, and checks every result. It fails on
//! a lost wake-up, a stale translation, a clobbered register, or a signal that is missing.
//!
//! | exercise | what it tests |
//! |---|---|
//! | `threads` | locks, wake-ups between processors, migration, floating point while preempted |
//! | `memory` | mapping, protecting and unmapping from many threads; no stale translation |
//! | `processes` | fork storms, copy on write, exec, pipes |
//! | `signals` | exact counts, timers, faults that a handler resolves |
//! | `clocks` | time that never goes back, sleeps that last as long as asked |
//! | `traps` | instructions and kernel entries that PV treats specially |
//!
//! `linux-selftest NAME [ROUNDS]` runs one and ends with a line `EXERCISE NAME ok ...` and status
//! 0, or `EXERCISE NAME failed: ...` and status 1. `ROUNDS` (10 if not given) says how long it runs.
#![expect(unsafe_code, reason = "system calls and instructions as no library makes them")]

mod clocks;
mod memory;
mod os;
mod processes;
mod random;
mod signals;
mod threads;
mod traps;

use std::process::ExitCode;

/// The result of an exercise: some figures, or what was wrong.
type Outcome = Result<String, String>;

/// Fails the exercise, with this text, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use ensure;

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
        "traps" => traps::run(rounds),
        // For `processes`, which runs this program again: exits with the length of its argument.
        "exit-with-length" => {
            return ExitCode::from(args.get(1).map_or(0, |text| text.len() as u8));
        }
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
