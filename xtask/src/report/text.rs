//! The report as text.

use super::model::{FrameMap, Mapping, Refusals, Report, Violation, chain};
use std::collections::BTreeMap;
use std::fmt::{Result, Write};

/// Violations of each kind that are shown in full where not all are.
const SHOWN: usize = 3;
/// Rows of refusals shown.
const ROWS: usize = 40;
/// Where prose is wrapped.
const WIDTH: usize = 100;

/// The whole report; `full`: with every violation.
pub(super) fn show(report: &Report, full: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, report, full);
    out
}

fn write_all(out: &mut String, report: &Report, full: bool) -> Result {
    writeln!(out, "{}", report.headline())?;
    summary(out, report)?;
    domains(out, report)?;
    scenarios(out, report)?;
    curves(out, report)?;
    report.frame_maps.iter().try_for_each(|map| frame_map(out, map))?;
    violations(out, report, full)?;
    refusals(out, report)?;
    for crash in &report.crashes {
        writeln!(out, "\nCrash of {}: {}", crash.who, crash.fields.joined())?;
        if let Some(place) = chain(&crash.calls) {
            writeln!(out, "  in {place}")?;
        }
        crash.dump.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    for panic in &report.panics {
        writeln!(out, "\nThe hypervisor panicked: {}", panic.text)?;
        panic.dump.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        for (depth, frame) in panic.backtrace.iter().enumerate() {
            let place = chain(&frame.calls).unwrap_or_else(|| "?".into());
            writeln!(out, "  {depth:>2}: {:#018x} {place}", frame.address)?;
        }
    }
    writeln!(out)?;
    if report.end.0.is_empty() {
        writeln!(out, "The log ends without an END record: the run was cut short.")?;
    } else {
        writeln!(out, "End: {}", report.end.joined())?;
    }
    report.skipped.words().iter().try_for_each(|words| writeln!(out, "{words}"))
}

fn summary(out: &mut String, report: &Report) -> Result {
    for (diagnosis, kinds) in report.causes() {
        let sum: u64 = kinds.iter().map(|(_, group)| group.count).sum();
        writeln!(out, "\n{sum} x {}", diagnosis.title())?;
        for (_, group) in kinds {
            let domain = group.domain.map_or("the hypervisor".into(), |id| report.domain_name(id));
            let region = match group.in_regions() {
                region if region.is_empty() => domain,
                region => format!("{domain}, {region}"),
            };
            writeln!(
                out,
                "  {:>6} in {region}, {:.6} s to {:.6} s: {}",
                group.count,
                group.first,
                group.last,
                group.operations()
            )?;
            if let Some(askers) = chain(&group.askers) {
                writeln!(out, "         asked for in {askers}")?;
            }
            if group.healed > 0 {
                writeln!(out, "         {} healed by the guest when it was told", group.healed)?;
            }
        }
        writeln!(out, "{}", wrapped(&format!("cure: {}", diagnosis.remedy()), "  ", "        "))?;
    }
    Ok(())
}

fn domains(out: &mut String, report: &Report) -> Result {
    let wide = report.domains.iter().map(|domain| domain.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "\nDomains")?;
    writeln!(out, "{:>5}  {:wide$}  {:>10}  {:>8}  end", "id", "name", "violations", "refused")?;
    for domain in &report.domains {
        writeln!(
            out,
            "{:>5}  {:wide$}  {:>10}  {:>8}  {}",
            format!("d{}", domain.id),
            domain.name,
            domain.violations,
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

fn scenarios(out: &mut String, report: &Report) -> Result {
    if report.scenarios.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nScenarios")?;
    for scenario in &report.scenarios {
        writeln!(
            out,
            "{:>5}  {:12}  {:6}  {}",
            format!("d{}", scenario.domain),
            scenario.scenario,
            scenario.form,
            scenario.fields.joined()
        )?;
    }
    Ok(())
}

fn curves(out: &mut String, report: &Report) -> Result {
    if report.curves.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nCost of pins, by policy and lazy mappings outstanding")?;
    let rows: Vec<Row> = report
        .curves
        .iter()
        .map(|point| {
            let mut row = vec![
                ("policy".to_owned(), point.policy.clone()),
                ("outstanding".to_owned(), point.outstanding.to_string()),
            ];
            row.extend(point.values.iter().map(|(key, value)| (key.clone(), value.to_string())));
            row
        })
        .collect();
    table(out, &rows)
}

fn frame_map(out: &mut String, map: &FrameMap) -> Result {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    map.runs.iter().for_each(|run| *counts.entry(run.usage).or_default() += run.frames);
    let shown = counts
        .iter()
        .map(|(letter, frames)| format!("{frames} {}", super::usage_name(*letter)))
        .collect::<Vec<_>>();
    writeln!(out, "\nFrames of d{} at its end: {}", map.domain, shown.join(", "))
}

fn violations(out: &mut String, report: &Report, full: bool) -> Result {
    if report.violations.is_empty() {
        return Ok(());
    }
    let chosen: Vec<usize> = if full {
        (0..report.violations.len()).collect()
    } else {
        let firsts = report.summary.iter().flat_map(|group| group.members.iter().take(SHOWN));
        let mut chosen: Vec<usize> = firsts.copied().collect();
        chosen.sort_unstable();
        chosen
    };
    let all = report.violations.len();
    match all - chosen.len() {
        0 => writeln!(out, "\nEvery violation")?,
        _ => writeln!(out, "\nThe first violations of each kind")?,
    }
    for at in &chosen {
        violation(out, &report.violations[*at])?;
    }
    match all - chosen.len() {
        0 => Ok(()),
        more => writeln!(out, "\nand {more} more like these (--full shows all of them)"),
    }
}

/// One violation in full.
fn violation(out: &mut String, violation: &Violation) -> Result {
    let why = violation.fields.get("why").unwrap_or("a mapping was in the way");
    let (time, who) = (violation.time, &violation.who);
    let id = violation.id.map_or("?".into(), |id| id.to_string());
    writeln!(out, "\n[{id}] {time:.6} s, {who}: {why}")?;
    if let Some(mark) = &violation.mark {
        writeln!(out, "  during: {mark}")?;
    }
    if let Some(place) = chain(&violation.calls) {
        writeln!(out, "  asked for in {place}")?;
    }
    if violation.healed {
        writeln!(out, "  healed: the guest cleared the mappings, and the second try went through")?;
    }
    let mut rest = violation.fields.clone();
    rest.0.retain(|(key, _)| key != "why" && key != "id");
    writeln!(out, "  {}", rest.joined())?;
    if violation.search.get("cut_short") == Some("yes") {
        writeln!(out, "  The search was cut short: there may be more mappings than these.")?;
    }
    if violation.mappings.is_empty() {
        return writeln!(out, "    (no mapping was found)");
    }
    table(out, &violation.mappings.iter().map(row).collect::<Vec<_>>())
}

fn refusals(out: &mut String, report: &Report) -> Result {
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

/// Cells of a table by their columns' names.
pub(super) type Row = Vec<(String, String)>;

/// What is known of a mapping, as cells.
pub(super) fn row(mapping: &Mapping) -> Row {
    let mut row = Row::new();
    let mut cell = |key: &str, value: Option<String>| {
        row.extend(value.map(|value| (key.to_owned(), value)));
    };
    cell("va", mapping.va.clone());
    cell("table", mapping.table.clone());
    cell("index", mapping.index.map(|index| index.to_string()));
    cell("entry", mapping.entry.clone());
    cell("region", mapping.region.clone());
    cell("state", Some(mapping.state.word().into()));
    cell("type", mapping.memory_type.clone());
    cell("borrower", mapping.borrower.clone());
    row.extend(mapping.other.0.iter().cloned());
    row
}

/// Every key that occurs, in the order of first occurrence.
pub(super) fn columns(rows: &[Row]) -> Vec<&str> {
    let mut keys = Vec::new();
    for (key, _) in rows.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

/// The cell of a column.
pub(super) fn cell<'r>(row: &'r Row, key: &str) -> &'r str {
    row.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
}

fn table(out: &mut String, rows: &[Row]) -> Result {
    let keys = columns(rows);
    let wide: Vec<usize> = keys
        .iter()
        .map(|key| rows.iter().map(|row| cell(row, key).len()).max().unwrap_or(0).max(key.len()))
        .collect();
    let mut line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&wide).map(|(cell, wide)| format!("{cell:wide$}"));
        let line = format!("    {}", padded.collect::<Vec<_>>().join("  "));
        writeln!(out, "{}", line.trim_end())
    };
    line(keys.clone())?;
    rows.iter().try_for_each(|row| line(keys.iter().map(|key| cell(row, key)).collect()))
}

/// Text in lines of at most [`WIDTH`] characters, with what stands before the first and the others.
pub(super) fn wrapped(text: &str, first: &str, others: &str) -> String {
    let (mut out, mut line) = (String::new(), first.to_owned());
    let mut fresh = true;
    for word in text.split_whitespace() {
        if !fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out += &line;
            out.push('\n');
            line = others.to_owned();
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line += word;
        fresh = false;
    }
    out + &line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: usize) -> Report {
        let mut log = String::from("[   0.010000] d1 START name=\"x\"\n");
        for id in 1..=count {
            log += &format!(
                "[   0.1{id:05}] d1v0 ALIAS id={id} op=pin_l1 frame={id:#x} why=\"no way {id}\"\n\
                 [   0.1{id:05}] d1v0 MAPPING id={id} va=0xffff900000000000 region=\"fs_buf\" state=dead\n"
            );
        }
        let mut report = Report::read(&log);
        report.summarize();
        report
    }

    #[test]
    fn all_are_shown_when_all_are_wanted() {
        let report = log(50);
        let full = show(&report, true);
        assert!((1..=50).all(|id| full.contains(&format!("[{id}] 0.1{id:05} s"))));
        let short = show(&report, false);
        assert!(short.contains("\nand 47 more like these"), "{short}");
        assert!(short.starts_with("50 violations, 1 kind, in 1 domain"), "{short}");
        assert!(
            short.contains("    50 in d1 x, in region fs_buf, 0.100001 s to 0.100050 s: pin_l1 50")
        );
        assert!(!show(&log(3), false).contains("more like these"));
    }

    #[test]
    fn prose_is_wrapped() {
        let text = "word ".repeat(60);
        let shown = wrapped(&text, "- ", "  ");
        assert!(shown.lines().count() == 4, "{shown}");
        assert!(shown.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(shown.split_whitespace().count(), 61);
        assert_eq!(wrapped(&"x".repeat(300), "", "").lines().count(), 1);
    }
}
