//! `bench`: what each operation costs in instructions, on Pinfold and on Xen; with `--container`, in
//! the hardware container as well; with `--linux`, how long Linux's test takes, as a ratio; with
//! `--policies`, what a pin costs beside lazy mappings.
//!
//! QEMU counts one nanosecond for each instruction, so the guest's time stamp counter counts
//! instructions, and the figures repeat to the digit on any machine. The guest prints them as
//! `BENCH name=... cost=...`; the runs on Pinfold and on Xen go side by side.

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
use pinfold_image::manifest::LogLevel;
use pinfold_image::size::Size;
use pinfold_image::{Container, Isolation};
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
    let contained = args.container.map(Container::from).filter(|kind| *kind != Container::None);
    let (ours, inside, theirs) = {
        let _step = progress::Step::start("Counting instructions (a minute or two)");
        std::thread::scope(|scope| {
            let measure = |name, on, container| {
                let guests = guests.iter().map(|guest| Guest { container, ..guest.clone() });
                measure(name, on, &guests.collect::<Vec<_>>(), isolation, args.timeout)
            };
            let theirs = with_xen
                .then(|| scope.spawn(move || measure("bench-xen", Host::Xen, Container::None)));
            let ours = measure("bench-pinfold", Host::Pinfold, Container::None);
            let inside =
                contained.map(|kind| measure("bench-pinfold-container", Host::Pinfold, kind));
            (ours, inside, theirs.map(|thread| thread.join().expect("measuring does not panic")))
        })
    };
    let (rows, verdict) = ours?;
    let (inside_rows, inside_verdict) = inside.transpose()?.unzip();
    let (xen_rows, xen_verdict) = theirs.transpose()?.unzip();
    print!("{}", table(&rows, inside_rows.as_ref(), xen_rows.as_ref()));
    for (on, verdict) in [
        ("Pinfold", Some(verdict)),
        ("Pinfold in the container", inside_verdict),
        ("Xen", xen_verdict),
    ] {
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
    name: &str,
    on: Host,
    guests: &[Guest],
    isolation: Isolation,
    timeout: u64,
) -> Result<(Rows, Verdict)> {
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

/// The figures side by side. The ratio is that of Pinfold without the container to Xen.
fn table(ours: &Rows, inside: Option<&Rows>, theirs: Option<&Rows>) -> String {
    let wide = ours.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(9);
    let cost_of = |rows: Option<&Rows>, name: &str| {
        let row = rows?.iter().find(|(known, _)| known == name)?;
        Some(row.1).filter(|cost| *cost > 0)
    };
    let cell = |cost: Option<u64>| cost.map_or("-".into(), |cost| cost.to_string());
    let mut lines = vec![[
        "operation".into(),
        "Pinfold".into(),
        "container".into(),
        "Xen".into(),
        "ratio".into(),
    ]];
    for (name, cost) in ours {
        let other = cost_of(theirs, name);
        let ratio = other.map_or("-".into(), |other| format!("{:.2}", *cost as f64 / other as f64));
        let inside = cell(cost_of(inside, name));
        lines.push([name.clone(), cost.to_string(), inside, cell(other), ratio]);
    }
    let mut out = String::new();
    for [name, ours, contained, other, ratio] in lines {
        out += &format!("{name:wide$}  {ours:>10}");
        if inside.is_some() {
            out += &format!("  {contained:>10}");
        }
        out += &format!("  {other:>10}  {ratio:>6}\n");
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
        let theirs = vec![("a".to_owned(), 200)];
        let two = table(&ours, None, Some(&theirs));
        assert!(two.contains("0.25") && !two.contains("container"), "{two}");
        assert!(two.lines().last().unwrap().ends_with('-'), "{two}");
        // Operations of the container are told apart by name: a missing one is no zero.
        let three = table(&ours, Some(&vec![("b".to_owned(), 3)]), Some(&theirs));
        let words = |line: usize| -> Vec<&str> {
            three.lines().nth(line).unwrap().split_whitespace().collect()
        };
        assert_eq!(words(0), ["operation", "Pinfold", "container", "Xen", "ratio"]);
        assert_eq!(words(1), ["a", "50", "-", "200", "0.25"]);
        assert_eq!(words(2), ["b", "7", "3", "-", "-"]);
    }
}
