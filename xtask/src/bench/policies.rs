//! `bench --policies`: what a pin costs under each policy, as lazy mappings grow in number.
//!
//! The guest `pin_cost` prints `CURVE policy=... outstanding=... instructions_per_pin=...`, one line
//! a point; the log stays for `report`, which draws them.

use super::{BenchArgs, GuestArgs, counting_machine, plan, text};
use crate::cli::Host;
use crate::exit::Exit;
use crate::{fetch, guests, image, progress, run};
use anyhow::{Result, bail};
use pinfold_abi::record::Fields;
use pinfold_image::Isolation;

/// The guest that measures.
const GUEST: &str = "pin_cost";

/// A point: what it is of, and its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    policy: String,
    aliases: u64,
    outstanding: u64,
    pins: u64,
    per_pin: u64,
    per_vunmap: u64,
    cleared: u64,
    flushes: u64,
}

/// Runs the guest and prints its figures.
pub(super) fn bench(args: &BenchArgs) -> Result<Exit> {
    let guests = guests::resolve(&GuestArgs::one(GUEST), &[image::HYPERVISOR])?;
    fetch::qemu::ensure()?;
    fetch::bootloader::ensure()?;
    let machine = counting_machine();
    let plan =
        plan("bench-policies", Host::Pinfold, &guests, machine, Isolation::Off, args.timeout)?;
    let mut points: Vec<Point> = Vec::new();
    let verdict = {
        let _step = progress::Step::start("Counting instructions (a minute or two)");
        run::judged(&plan, |line| points.extend(point(line)))?
    };
    print!("{}", tables(&points));
    progress::note(format!("the points, one a line: {}", plan.dir.join("serial.log").display()));
    if !verdict.is_ok() {
        progress::note(format!("FAILED: {}", verdict.why));
        return Ok(verdict.exit);
    }
    if points.is_empty() {
        bail!("the guest {GUEST} ended well but measured nothing");
    }
    Ok(Exit::Ok)
}

/// Reads a line of the log.
fn point(line: &str) -> Option<Point> {
    let fields = Fields::of(text(line)?.strip_prefix("CURVE ")?);
    let value = |key: &str| fields.clone().find(|(name, _)| *name == key).map(|(_, value)| value);
    let number = |key: &str| value(key)?.parse().ok();
    Some(Point {
        policy: value("policy")?.into(),
        aliases: number("aliases")?,
        outstanding: number("outstanding")?,
        pins: number("pins")?,
        per_pin: number("instructions_per_pin")?,
        per_vunmap: number("instructions_per_vunmap")?,
        cleared: number("cleared")?,
        flushes: number("flushes")?,
    })
}

/// What one of the tables shows of a point.
type Show = fn(&Point) -> String;

/// A mean over the pins, with two digits behind the point if it is no whole number.
fn mean(sum: u64, pins: u64) -> String {
    let pins = pins.max(1);
    if sum.is_multiple_of(pins) {
        (sum / pins).to_string()
    } else {
        format!("{:.2}", sum as f64 / pins as f64)
    }
}

/// A table for each figure, a row for each policy, a column for each number of mappings.
fn tables(points: &[Point]) -> String {
    let mut out = String::new();
    let mut counts: Vec<u64> = points.iter().map(|point| point.aliases).collect();
    counts.sort_unstable();
    counts.dedup();
    for aliases in counts {
        let some: Vec<&Point> = points.iter().filter(|point| point.aliases == aliases).collect();
        let of = match aliases {
            0 => "tables without a dead mapping".to_owned(),
            n => format!("tables with {n} dead mappings"),
        };
        let shown: [(&str, Show); 4] = [
            ("instructions for a pin and unpin", |point| point.per_pin.to_string()),
            ("TLB flushes for a pin", |point| mean(point.flushes, point.pins)),
            ("mappings cleared for a pin", |point| mean(point.cleared, point.pins)),
            ("instructions for letting go one mapping", |point| point.per_vunmap.to_string()),
        ];
        for (title, show) in shown {
            out += &table(&format!("{title}, {of}, with so many others outstanding"), &some, show);
        }
    }
    out
}

fn table(title: &str, points: &[&Point], show: Show) -> String {
    let mut policies: Vec<&str> = Vec::new();
    let mut columns: Vec<u64> = Vec::new();
    for point in points {
        if !policies.contains(&point.policy.as_str()) {
            policies.push(&point.policy);
        }
        if !columns.contains(&point.outstanding) {
            columns.push(point.outstanding);
        }
    }
    let wide = policies.iter().map(|policy| policy.len()).max().unwrap_or(0).max(6);
    let mut out = format!("\n{title}\n{:wide$}", "policy");
    for column in &columns {
        out += &format!("  {column:>11}");
    }
    out.push('\n');
    for policy in policies {
        out += &format!("{policy:wide$}");
        for &column in &columns {
            let here = |point: &&&Point| point.policy == policy && point.outstanding == column;
            let cell = points.iter().find(here).map_or("-".into(), |point| show(point));
            out += &format!("  {cell:>11}");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[   1.000000] d1 | CURVE policy=lazy aliases=0 outstanding=100 dead=100 \
         pins=16 instructions_per_pin=54008 instructions_per_vunmap=66 flushes=16 cleared=1600 \
         refused=0 vunmap_flushes=0";

    #[test]
    fn a_point_reads_from_a_line() {
        let point = point(LINE).unwrap();
        assert_eq!((point.policy.as_str(), point.outstanding), ("lazy", 100));
        assert_eq!((point.per_pin, point.per_vunmap, point.cleared), (54008, 66, 1600));
        assert_eq!(super::point(&LINE.replace("d1 |", "d1 MARK")), None);
        assert_eq!(super::point(&LINE.replace("pins=16 ", "")), None);
    }

    #[test]
    fn a_table_has_a_cell_for_each_point() {
        let first = point(LINE).unwrap();
        let second = Point { policy: "eager".into(), outstanding: 0, cleared: 5, ..first.clone() };
        let text = tables(&[first, second]);
        assert!(text.contains("tables without a dead mapping"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("lazy")).collect();
        assert!(rows[0].ends_with('-') && rows[0].contains("54008"), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("eager") && line.ends_with("0.31")),
            "{text}"
        );
    }
}
