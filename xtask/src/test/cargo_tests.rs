//! Tests that cargo runs: each command is one test here, and its own tests are counted.

use super::list::{Part, Test, When};
use crate::{cargo, paths};
use libtest_mimic::{Completion, Conclusion, Failed};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Packages whose unit tests Miri can run in minutes: no processes, no files, no assembly.
const FOR_MIRI: &[&str] = &[
    "pinfold-abi",
    "pinfold-rings",
    "pinfold-grants",
    "pinfold-log",
    "pinfold-cpu-flaws",
    "pinfold-hardware",
];

/// Property tests of these packages that take Miri many minutes even with few cases.
const TOO_SLOW_FOR_MIRI: &[&str] = &["each_type", "records_are_complete_in_order_and_counted"];

/// How many tests of finished commands passed, failed and were ignored.
#[derive(Debug, Default)]
pub(super) struct Counts {
    tests: [AtomicU64; 3],
    /// Commands that passed or failed with such counts, which replace them in the sum.
    commands: [AtomicU64; 2],
}

impl Counts {
    fn add(&self, counts: [u64; 3]) {
        for (sum, count) in self.tests.iter().zip(counts) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The sum of all tests: passed, failed, skipped.
    pub(super) fn added_to(&self, conclusion: &Conclusion) -> [u64; 3] {
        let [passed, failed, ignored] = self.tests.each_ref().map(|it| it.load(Ordering::Relaxed));
        let [passes, failures] = self.commands.each_ref().map(|it| it.load(Ordering::Relaxed));
        [
            conclusion.num_passed - passes + passed,
            conclusion.num_failed - failures + failed,
            conclusion.num_ignored + ignored,
        ]
    }
}

/// The tests.
pub(super) fn tests(counts: &Arc<Counts>) -> Vec<Test> {
    let test = |part, name: &str, about: &str, run: fn(&Counts) -> Result<Completion, Failed>| {
        let counts = Arc::clone(counts);
        Test {
            part,
            name: name.into(),
            about: about.into(),
            when: When::Always,
            run: Box::new(move || run(&counts)),
        }
    };
    vec![
        test(Part::Host, "host", "unit and integration tests of all host crates", |counts| {
            let mut command = cargo::command();
            command.args(["test", "--lib", "--bins", "--tests"]);
            run(command, counts)
        }),
        test(Part::Doc, "doc", "examples in the documentation run", |counts| {
            let mut command = cargo::command();
            command.args(["test", "--doc"]);
            run(command, counts)
        }),
        test(
            Part::Loom,
            "loom",
            "the frame table's atomics, and flushes of ASIDs, hold in every interleaving",
            |counts| {
                let mut command = cargo::command();
                command.args(["test", "--release", "-p", "pinfold-validator"]);
                command.args(["-p", "pinfold-core", "--lib", "loom_"]);
                command
                    // A backtrace needs more stack than loom's threads have.
                    .env("RUST_BACKTRACE", "0")
                    .env("RUSTFLAGS", "--cfg loom")
                    .env("CARGO_TARGET_DIR", paths::target().join("loom"));
                run(command, counts)
            },
        ),
        test(Part::Miri, "miri", "unit tests of small crates have no undefined behaviour", miri),
    ]
}

/// Runs the unit tests of [`FOR_MIRI`]. Miri is part of nightly toolchains only.
fn miri(counts: &Counts) -> Result<Completion, Failed> {
    let there = cargo::nightly()
        .args(["miri", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        let why = "no Miri: rustup toolchain install nightly --component miri,rust-src";
        return Ok(Completion::ignored_with(why));
    }
    let mut command = cargo::nightly();
    command.args(["miri", "test", "--lib"]);
    for package in FOR_MIRI {
        command.args(["-p", package]);
    }
    command.arg("--");
    for test in TOO_SLOW_FOR_MIRI {
        command.args(["--skip", test]);
    }
    // Property tests read a file of past failures, and with all their cases take hours.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "2");
    command.env("CARGO_TARGET_DIR", paths::target().join("miri"));
    run(command, counts)
}

/// Runs a command and counts its tests. What it prints goes to standard error.
fn run(mut command: Command, counts: &Counts) -> Result<Completion, Failed> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let output = child.stdout.take().expect("it is piped");
    let mut sum = [0; 3];
    let mut failed = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("cannot read what cargo prints: {error}"))?;
        eprintln!("{line}");
        if let Some(results) = results(&line) {
            sum.iter_mut().zip(results).for_each(|(sum, count)| *sum += count);
        }
        failed.extend(
            line.strip_prefix("test ")
                .and_then(|it| it.strip_suffix(" ... FAILED"))
                .map(str::to_owned),
        );
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    counts.add(sum);
    if status.success() {
        counts.commands[0].fetch_add(u64::from(sum[0] > 0), Ordering::Relaxed);
        return Ok(Completion::Completed);
    }
    counts.commands[1].fetch_add(u64::from(sum[1] > 0), Ordering::Relaxed);
    match failed.as_slice() {
        [] => {
            Err(format!("cargo ended with {status} without a failed test (does it build?)").into())
        }
        names => Err(format!("failed: {}", names.join(", ")).into()),
    }
}

/// Passed, failed and ignored tests in a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn results(line: &str) -> Option<[u64; 3]> {
    let (_, figures) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = [0; 3];
    for (count, (figure, word)) in
        counts.iter_mut().zip(figures.split("; ").zip(["passed", "failed", "ignored"]))
    {
        *count = figure.strip_suffix(word)?.trim().parse().ok()?;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 22 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.31s";
        assert_eq!(results(line), Some([22, 1, 3]));
        for line in ["", "running 22 tests", "test result: ok", "test result: ok. many passed"] {
            assert_eq!(results(line), None, "{line}");
        }
    }

    #[test]
    fn tests_of_a_command_replace_it_in_the_sum() {
        let conclusion = Conclusion {
            num_filtered_out: 0,
            num_passed: 3,
            num_failed: 1,
            num_ignored: 1,
            num_measured: 0,
        };
        let counts = Counts::default();
        assert_eq!(counts.added_to(&conclusion), [3, 1, 1]);
        counts.add([600, 0, 2]);
        counts.commands[0].store(1, Ordering::Relaxed);
        assert_eq!(counts.added_to(&conclusion), [602, 1, 3]);
    }
}
