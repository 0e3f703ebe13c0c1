//! The host tests: `cargo test` over the workspace's default members, its results counted.

use super::Tally;
use crate::{cargo, progress};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Runs them; their own words go to the terminal.
pub(super) fn run(tally: &mut Tally) -> Result<()> {
    progress::note("Host tests");
    let mut child = cargo::command()
        .arg("test")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let before = tally.failed;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what cargo test says")?;
        println!("{line}");
        if let Some([passed, failed, ignored]) = counts(&line) {
            tally.passed += passed;
            tally.failed += failed;
            tally.skipped += ignored;
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() && tally.failed == before {
        println!(
            "FAIL  host: cargo test ended with {status} without a failed test (does it build?)"
        );
        tally.failed += 1;
    }
    Ok(())
}

/// Passed, failed and ignored tests in a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn counts(line: &str) -> Option<[u64; 3]> {
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
        assert_eq!(counts(line), Some([22, 1, 3]));
        for line in ["", "running 22 tests", "test result: ok", "test result: ok. many passed"] {
            assert_eq!(counts(line), None, "{line}");
        }
    }
}
