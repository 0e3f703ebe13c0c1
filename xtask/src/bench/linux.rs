//! How long Linux takes for its test on Pinfold, as a ratio to Xen.
//!
//! Wall time on one machine says nothing about another, but the ratio of two runs of the same guest
//! in the same QEMU does: so only ratios are shown. Time is taken where a line of the guest arrives:
//! from its first word to its verdict, and from one step of the test to the next. The firmware and
//! the hypervisor's own start are not in it.

use crate::accel::Accel;
use crate::cli::Host;
use crate::fetch;
use crate::guests::Guest;
use crate::machine::Machine;
use crate::run;
use crate::verdict::{self, Verdict};
use crate::{linux, progress};
use anyhow::Result;
use pinfold_image::Isolation;
use std::time::{Duration, Instant};

/// Virtual processors of the guest, a column each.
const COLUMNS: [u32; 2] = [1, 2];
/// Runs on each hypervisor; the fastest counts, since a busy host only ever adds time.
const RUNS: usize = 2;
/// The row of the whole test.
const WHOLE: &str = "all of it";

/// Rows of one run, in their order: what, and how long.
type Rows = Vec<(String, Duration)>;

/// Times the test on both and prints the table. Returns the first verdict that is not good.
pub(super) fn bench(isolation: Isolation, timeout: u64) -> Result<Option<(&'static str, Verdict)>> {
    fetch::linux::ensure()?;
    let initrd = linux::initramfs()?;
    let mut columns = Vec::new();
    for vcpus in COLUMNS {
        let mut guest = Guest::linux(linux::NAME, Some(initrd.clone()))?;
        guest.cmdline = linux::command_line(&format!("{} pinfold.rounds=5", linux::TEST));
        guest.vcpus = vcpus;
        let mut fastest: [Rows; 2] = Default::default();
        let _step = progress::Step::start(format!(
            "Timing Linux's test with {vcpus} processors, {RUNS} times on each hypervisor"
        ));
        // In turns, so that a host that is busy for a while is so for both.
        for _ in 0..RUNS {
            for (on, best) in [Host::Pinfold, Host::Xen].into_iter().zip(&mut fastest) {
                let (rows, verdict) = time(on, &guest, isolation, timeout)?;
                if !verdict.is_ok() {
                    return Ok(Some((
                        if on == Host::Pinfold { "Pinfold" } else { "Xen" },
                        verdict,
                    )));
                }
                keep_fastest(best, rows);
            }
        }
        columns.push(ratios(&fastest));
    }
    print!("{}", table(&columns));
    Ok(None)
}

/// Runs the test once.
fn time(on: Host, guest: &Guest, isolation: Isolation, timeout: u64) -> Result<(Rows, Verdict)> {
    let guests = [guest.clone()];
    let machine = Machine {
        smp: run::processors_for(&guests),
        ..Machine::new(run::memory_for(&guests), Accel::Tcg)
    };
    let name = format!("bench-linux-{on:?}").to_lowercase();
    let plan = super::plan(&name, on, &guests, machine, isolation, timeout)?;
    let mut watch = StopWatch::default();
    let verdict = run::judged(&plan, |line| watch.line(on, line))?;
    Ok((watch.rows, verdict))
}

/// Takes the times as the guest's lines arrive.
#[derive(Debug, Default)]
struct StopWatch {
    started: Option<Instant>,
    last: Option<Instant>,
    rows: Rows,
}

impl StopWatch {
    fn line(&mut self, on: Host, line: &str) {
        let Some(text) = verdict::printed(on, line) else { return };
        let now = Instant::now();
        if self.started.is_none() {
            // On Xen the log has other text without a mark before the kernel's own.
            if text.contains("Linux version ") {
                (self.started, self.last) = (Some(now), Some(now));
            }
            return;
        }
        let mut words = text.split(' ');
        let row = match (words.next(), words.next(), words.next()) {
            (Some("STEP"), Some("ok"), Some(step)) => (step, self.last.replace(now)),
            (Some("VERDICT"), ..) => (WHOLE, self.started),
            _ => return,
        };
        if let (name, Some(since)) = row {
            self.rows.push((name.into(), now - since));
        }
    }
}

/// Keeps the shorter time of each row.
fn keep_fastest(best: &mut Rows, rows: Rows) {
    if best.is_empty() {
        *best = rows;
        return;
    }
    for ((_, best), (_, now)) in best.iter_mut().zip(rows) {
        *best = now.min(*best);
    }
}

/// Pinfold's times as parts of Xen's.
fn ratios([ours, theirs]: &[Rows; 2]) -> Vec<(String, f64)> {
    let ratio = |(name, ours): &(String, Duration)| {
        let (_, theirs) = theirs.iter().find(|(known, _)| known == name)?;
        Some((name.clone(), ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)))
    };
    ours.iter().filter_map(ratio).collect()
}

fn table(columns: &[Vec<(String, f64)>]) -> String {
    let head: String = COLUMNS.map(|vcpus| format!("  {:>7}", format!("{vcpus} vCPU"))).concat();
    let mut out = format!("\n{:24}{head}\n", "Linux, Pinfold : Xen");
    for (name, _) in columns.first().into_iter().flatten() {
        let cells = columns.iter().map(|column| {
            let cell = column.iter().find(|(known, _)| known == name);
            cell.map_or("-".into(), |(_, ratio)| format!("{ratio:.2}"))
        });
        let cells: String = cells.map(|cell| format!("  {cell:>7}")).collect();
        out += &format!("{name:24}{cells}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_the_whole_are_timed() {
        let mut watch = StopWatch::default();
        for line in [
            "mapping kernel into physical memory",
            "STEP ok too-early",
            "[    0.000000] Linux version 6.1",
            "STEP ok boot cpus=1",
            "(XEN) STEP ok forged",
            "STEP failed pipes: x",
            "STEP ok forks processes=3",
            "VERDICT pass",
        ] {
            watch.line(Host::Xen, line);
        }
        let names: Vec<&str> = watch.rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["boot", "forks", WHOLE]);
        assert!(watch.rows[2].1 >= watch.rows[0].1 + watch.rows[1].1);
    }

    #[test]
    fn the_fastest_run_counts_and_only_ratios_show() {
        let rows = |boot: u64, forks: u64| {
            [("boot", boot), ("forks", forks)]
                .map(|(name, ms)| (name.to_owned(), Duration::from_millis(ms)))
                .to_vec()
        };
        let mut best = Rows::new();
        keep_fastest(&mut best, rows(300, 500));
        keep_fastest(&mut best, rows(400, 200));
        assert_eq!(best, rows(300, 200));
        let table = table(&[ratios(&[best, rows(400, 100)])]);
        assert!(table.contains("0.75") && table.contains("2.00"), "{table}");
    }
}
