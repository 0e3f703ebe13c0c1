//! `bench`: what each operation costs in instructions, on Pinfold and on Xen; with `--linux`, how
//! long Linux's test takes, as a ratio; with `--policies`, what a pin costs beside lazy mappings.
//!
//! QEMU counts one nanosecond for each instruction, so the guest's time stamp counter counts
//! instructions, and the figures repeat to the digit on any machine. The guest prints them as
//! `BENCH name=... cost=...`; both runs go side by side.

mod linux;
mod policies;

use crate::accel::Accel;
use crate::cli::{BenchArgs, GuestArgs, Host};
use crate::exit::Exit;
use crate::guests::{self, Guest};
use crate::machine::{Input, Machine};
use crate::run::{self, Plan};
use crate::verdict::Verdict;
use crate::{fetch, image, paths, progress};
use anyhow::{Result, bail};
use pinfold_abi::record::{Record, kind};
use pinfold_image::Isolation;
use pinfold_image::manifest::LogLevel;
use pinfold_image::size::Size;
use std::time::Duration;

/// The guest that measures.
const GUEST: &str = "bench";
/// Memory of the machine.
const MEMORY: Size = Size(512 << 20);

/// Rows of one run, in the guest's order: name and instructions.
type Rows = Vec<(String, u64)>;

/// `bench`.
pub(crate) fn verb(args: &BenchArgs) -> Result<Exit> {
    if args.policies {
        return policies::bench(args);
    }
    let guests = guests::resolve(&GuestArgs::one(GUEST), &[image::HYPERVISOR])?;
    fetch::qemu::ensure()?;
    fetch::bootloader::ensure()?;
    let isolation = args.isolate_page_tables.into();
    let with_xen = !args.no_xen && xen_is_there();
    let (ours, theirs) = {
        let _step = progress::Step::start("Counting instructions (a minute or two)");
        std::thread::scope(|scope| {
            let measure = |on| measure(on, &guests, isolation, args.timeout);
            let theirs = with_xen.then(|| scope.spawn(move || measure(Host::Xen)));
            let ours = measure(Host::Pinfold);
            (ours, theirs.map(|thread| thread.join().expect("measuring does not panic")))
        })
    };
    let (rows, verdict) = ours?;
    let (xen_rows, xen_verdict) = theirs.transpose()?.unzip();
    print!("{}", table(&rows, xen_rows.as_ref()));
    for (on, verdict) in [("Pinfold", Some(verdict)), ("Xen", xen_verdict)] {
        if let Some(verdict) = verdict.filter(|verdict| !verdict.is_ok()) {
            progress::note(format!("on {on}: FAILED: {}", verdict.why));
            return Ok(verdict.exit);
        }
    }
    if rows.is_empty() {
        bail!("the guest {GUEST} ended well but measured nothing");
    }
    if args.linux && with_xen {
        let bad = linux::bench(isolation, args.timeout)?;
        if let Some((on, verdict)) = bad {
            progress::note(format!("Linux on {on}: FAILED: {}", verdict.why));
            return Ok(verdict.exit);
        }
    }
    Ok(Exit::Ok)
}

fn xen_is_there() -> bool {
    fetch::xen::ensure()
        .inspect_err(|error| {
            progress::note(format!("Xen cannot be had here, Pinfold only: {error:#}"));
        })
        .is_ok()
}

/// Runs the guest on one of the two.
fn measure(
    on: Host,
    guests: &[Guest],
    isolation: Isolation,
    timeout: u64,
) -> Result<(Rows, Verdict)> {
    let name = if on == Host::Pinfold { "bench-pinfold" } else { "bench-xen" };
    let plan = plan(name, on, guests, counting_machine(), isolation, timeout)?;
    let mut rows = Rows::new();
    let verdict = run::judged(&plan, |line| rows.extend(row(line)))?;
    Ok((rows, verdict))
}

/// A machine whose time stamp counter counts instructions.
fn counting_machine() -> Machine {
    Machine { icount: true, ..Machine::new(MEMORY, Accel::Tcg) }
}

/// The plan of a run that is measured.
fn plan(
    name: &str,
    on: Host,
    guests: &[Guest],
    machine: Machine,
    isolation: Isolation,
    timeout: u64,
) -> Result<Plan> {
    Ok(Plan {
        on,
        guests: guests.to_vec(),
        machine,
        log: LogLevel::default(),
        canaries: false,
        isolation,
        limit: Some(Duration::from_secs(timeout)),
        input: Input::Nothing,
        dir: paths::run_dir(name)?,
    })
}

/// What a guest printed: alone on Xen and in a console record on Pinfold.
fn text(line: &str) -> Option<&str> {
    match Record::parse(line) {
        Some(record) if record.head.kind == kind::CONSOLE => Some(record.body.trim()),
        Some(_) => None,
        None => Some(line.trim()),
    }
}

/// Reads `BENCH name=... cost=...`.
fn row(line: &str) -> Option<(String, u64)> {
    let rest = text(line)?.strip_prefix("BENCH ")?;
    let value = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key));
    Some((value("name=")?.into(), value("cost=")?.parse().ok()?))
}

/// The figures side by side.
fn table(ours: &Rows, theirs: Option<&Rows>) -> String {
    let wide = ours.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(9);
    let mut out =
        format!("{:wide$}  {:>10}  {:>10}  {:>6}\n", "operation", "Pinfold", "Xen", "ratio");
    for (name, cost) in ours {
        let other = theirs.and_then(|rows| rows.iter().find(|(known, _)| known == name));
        let (other, ratio) = match other {
            Some((_, other)) if *other > 0 => {
                (other.to_string(), format!("{:.2}", *cost as f64 / *other as f64))
            }
            _ => ("-".into(), "-".into()),
        };
        out += &format!("{name:wide$}  {cost:>10}  {other:>10}  {ratio:>6}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_from_both_kinds_of_log() {
        let expected = Some(("pin_l1".to_owned(), 132_572));
        assert_eq!(row("BENCH name=pin_l1 cost=132572"), expected);
        assert_eq!(row("[   1.000000] d1 | BENCH name=pin_l1 runs=3 cost=132572"), expected);
        assert_eq!(row("[   1.000000] d1 MARK BENCH name=pin_l1 cost=1"), None);
        assert_eq!(row("BENCH name=pin_l1"), None);
    }

    #[test]
    fn the_table_has_the_ratio() {
        let ours = vec![("a".to_owned(), 50), ("b".to_owned(), 7)];
        let table = table(&ours, Some(&vec![("a".to_owned(), 200)]));
        assert!(table.contains("0.25"), "{table}");
        assert!(table.lines().last().unwrap().ends_with('-'), "{table}");
    }
}
