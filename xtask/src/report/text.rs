//! The report as text.

use super::model::{Fields, Refusals, Report, value};
use std::fmt::Write;

/// Violations shown at full length; JSON and HTML have all.
const SHOWN: usize = 20;
/// Rows of refusals shown.
const ROWS: usize = 40;

/// The whole report.
pub(super) fn show(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, report);
    out
}

fn write_all(out: &mut String, report: &Report) -> std::fmt::Result {
    domains(out, report)?;
    violations(out, report)?;
    refusals(out, report)?;
    for crash in &report.crashes {
        writeln!(out, "\nCrash of {}: {}", crash.who, joined(&crash.fields))?;
        if let Some(place) = &crash.place {
            writeln!(out, "  in {place}")?;
        }
        crash.dump.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    for panic in &report.panics {
        writeln!(out, "\nThe hypervisor panicked: {}", panic.text)?;
        panic.dump.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        for (depth, frame) in panic.backtrace.iter().enumerate() {
            let place = frame.place.as_deref().unwrap_or("?");
            writeln!(out, "  {depth:>2}: {:#018x} {place}", frame.address)?;
        }
    }
    writeln!(out)?;
    if report.end.is_empty() {
        writeln!(out, "The log ends without an END record: the run was cut short.")?;
    } else {
        writeln!(out, "End: {}", joined(&report.end))?;
    }
    let skipped = report.skipped;
    if skipped.garbled + skipped.orphans > 0 {
        writeln!(
            out,
            "Passed over: {} lines that are no records, {} records whose head is missing.",
            skipped.garbled, skipped.orphans
        )?;
    }
    Ok(())
}

fn domains(out: &mut String, report: &Report) -> std::fmt::Result {
    let wide = report.domains.iter().map(|domain| domain.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "Domains")?;
    writeln!(out, "{:>5}  {:wide$}  {:>8}  {:>8}  end", "id", "name", "aliases", "refused")?;
    for domain in &report.domains {
        writeln!(
            out,
            "{:>5}  {:wide$}  {:>8}  {:>8}  {}",
            format!("d{}", domain.id),
            domain.name,
            domain.aliases,
            domain.refused,
            domain.ended
        )?;
        if let Some(verdict) = &domain.verdict {
            writeln!(out, "       {:wide$}  verdict: {verdict}", "")?;
        }
        if domain.dropped > 0 {
            writeln!(out, "       {:wide$}  {} of its records were left out", "", domain.dropped)?;
        }
    }
    Ok(())
}

fn violations(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.violations.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nAlias violations: {}", report.violations.len())?;
    for violation in report.violations.iter().take(SHOWN) {
        let why = value(&violation.fields, "why").unwrap_or("an alias was met");
        writeln!(out, "\n{:.6} s, {}: {why}", violation.time, violation.who)?;
        if let Some(mark) = &violation.mark {
            writeln!(out, "  during: {mark}")?;
        }
        if let Some(place) = &violation.place {
            writeln!(out, "  asked for in {place}")?;
        }
        let rest = violation.fields.iter().filter(|(key, _)| key != "why");
        writeln!(out, "  {}", joined(&rest.cloned().collect()))?;
        if value(&violation.search, "cut_short") == Some("yes") {
            writeln!(out, "  The search was cut short: there may be more mappings than these.")?;
        }
        table(out, &violation.mappings)?;
    }
    if let Some(more) = report.violations.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        writeln!(out, "\nand {more} more (all of them with --json or --html)")?;
    }
    Ok(())
}

fn refusals(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.refusals.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nRefusals, by operation and cause; the words are those of the first of them")?;
    let wide = |text: fn(&Refusals) -> &str| {
        report.refusals.iter().map(|one| text(one).len()).max().unwrap_or(0)
    };
    let (op, cause) = (wide(|one| &one.op), wide(|one| &one.cause));
    for one in report.refusals.iter().take(ROWS) {
        writeln!(
            out,
            "{:>7} x  {}  {:op$}  {:cause$}  {}",
            one.count, one.who, one.op, one.cause, one.first
        )?;
    }
    if let Some(more) = report.refusals.len().checked_sub(ROWS).filter(|more| *more > 0) {
        writeln!(out, "           and {more} other kinds")?;
    }
    Ok(())
}

/// Every key that occurs, in the order of first occurrence.
pub(super) fn columns(rows: &[Fields]) -> Vec<&str> {
    let mut keys = Vec::new();
    for (key, _) in rows.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

fn table(out: &mut String, rows: &[Fields]) -> std::fmt::Result {
    let keys = columns(rows);
    let wide = |key: &&str| {
        rows.iter().map(|row| value(row, key).unwrap_or("").len()).max().unwrap_or(0).max(key.len())
    };
    let line = |cells: Vec<String>| format!("    {}", cells.join("  ")).trim_end().to_owned();
    if rows.is_empty() {
        return writeln!(out, "    (no mapping was found)");
    }
    writeln!(out, "{}", line(keys.iter().map(|key| format!("{key:w$}", w = wide(key))).collect()))?;
    for row in rows {
        let cells =
            keys.iter().map(|key| format!("{:w$}", value(row, key).unwrap_or(""), w = wide(key)));
        writeln!(out, "{}", line(cells.collect()))?;
    }
    Ok(())
}

/// Fields as they stood in the record.
pub(super) fn joined(fields: &Fields) -> String {
    let shown = fields.iter().map(|(key, value)| {
        if value.contains(' ') { format!("{key}=\"{value}\"") } else { format!("{key}={value}") }
    });
    shown.collect::<Vec<_>>().join(" ")
}
