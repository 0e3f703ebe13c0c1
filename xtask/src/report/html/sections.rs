//! The page's sections, the most important first.

use super::svg::escape;
use super::{PICTURES, ROWS, curves, frame_map, timeline, tone, violation};
use crate::report::model::{Fields, Report, Scenario, Violation, chain};
use crate::report::summary::Group;
use crate::report::text::{self, Row, cell, columns};
use std::collections::BTreeMap;
use std::fmt::{Result, Write};

/// Everything between the page's head and its end.
pub(super) fn all(out: &mut String, report: &Report, source: &str) -> Result {
    head(out, report, source)?;
    causes(out, report)?;
    if let Some(svg) = timeline::picture(report) {
        section(out, "when", "When")?;
        plate(out, &svg)?;
    }
    scenarios(out, report)?;
    costs(out, report)?;
    for map in &report.frame_maps {
        if let Some(svg) = frame_map::picture(report, map) {
            let title = format!("Frames of {} at its end", report.domain_name(map.domain));
            section(out, &format!("frames-{}", map.domain), &title)?;
            writeln!(
                out,
                "<p class=soft>Each row is a stretch of machine memory, frame numbers at the left. A ring \
                 marks a frame that was refused.</p>"
            )?;
            plate(out, &svg)?;
        }
    }
    violations(out, report)?;
    refusals(out, report)?;
    domains(out, report)?;
    crashes(out, report)?;
    write!(out, "<footer class=soft>")?;
    if !report.end.0.is_empty() {
        writeln!(out, "<p>End: <code>{}</code></p>", escape(&report.end.joined()))?;
    }
    let skipped = report.skipped.words().unwrap_or("Every line of the log was read.".into());
    writeln!(out, "<p>{}</p></footer>", escape(&skipped))
}

fn section(out: &mut String, id: &str, title: &str) -> Result {
    writeln!(out, "<h2 id=\"{}\">{}</h2>", escape(id), escape(title))
}

fn plate(out: &mut String, svg: &str) -> Result {
    writeln!(out, "<div class=\"plate wide\">{svg}</div>")
}

fn head(out: &mut String, report: &Report, source: &str) -> Result {
    writeln!(out, "<h1>Pinfold report</h1>\n<p class=soft>{}</p>", escape(source))?;
    writeln!(out, "<p class=lead>{}</p>", escape(&report.headline()))?;
    for panic in &report.panics {
        writeln!(
            out,
            "<p class=alarm>The hypervisor panicked: <code>{}</code> (<a href=\"#panic\">more</a>)</p>",
            escape(&panic.text)
        )?;
    }
    if report.end.0.is_empty() {
        writeln!(
            out,
            "<p class=alarm>The log ends without an END record: the run was cut short.</p>"
        )?;
    }
    let sum = |count: fn(&crate::report::model::Domain) -> u64| {
        report.domains.iter().map(count).sum::<u64>()
    };
    let tiles = [
        (report.violations.len() as u64, "violations"),
        (report.summary.len() as u64, "kinds"),
        (report.domains.len() as u64, "domains"),
        (sum(|domain| domain.refused), "other refusals"),
        (report.crashes.len() as u64, "crashes"),
        (sum(|domain| domain.dropped), "records left out"),
    ];
    write!(out, "<div class=tiles>")?;
    for (count, name) in tiles {
        write!(out, "<div class=tile><b>{count}</b>{name}</div>")?;
    }
    writeln!(out, "</div>")
}

/// What was found and what cures it: a card for each cause, its kinds as rows.
fn causes(out: &mut String, report: &Report) -> Result {
    if report.summary.is_empty() {
        return Ok(());
    }
    section(out, "causes", "What was found, and what cures it")?;
    for (diagnosis, kinds) in report.causes() {
        let class = tone(diagnosis);
        let (sum, healed) = kinds
            .iter()
            .fold((0, 0), |(sum, healed), (_, group)| (sum + group.count, healed + group.healed));
        write!(out, "<div class=\"card {class}\"><h3>{sum} × {}</h3>", diagnosis.title())?;
        write!(out, "<p><span class=\"chip {class}\">{}</span>", diagnosis.short())?;
        if healed > 0 {
            write!(out, "<span class=\"chip good\">{healed} healed</span>")?;
        }
        writeln!(out, "<span class=soft>{}</span></p>", diagnosis.explanation())?;
        write!(out, "<div class=wide><table><tr><th class=n>count<th>region<th>domain")?;
        write!(out, "<th>asked for in<th>operations<th>first, s<th>last, s<th>")?;
        for (number, group) in kinds {
            let domain = group.domain.map_or("the hypervisor".into(), |id| report.domain_name(id));
            let askers: Vec<String> =
                group.askers.iter().map(|call| escape(&call.brief())).collect();
            write!(
                out,
                "\n<tr><td class=n>{}<td>{}<td>{}<td>{}<td class=free>{}<td>{:.4}<td>{:.4}\
                 <td><a href=\"#kind-{number}\">show</a>",
                group.count,
                escape(&group.regions.join(", ")),
                escape(&domain),
                askers.join("<br>"),
                escape(&group.operations()),
                group.first,
                group.last,
            )?;
        }
        writeln!(out, "</table></div>")?;
        writeln!(out, "<p class=cure><b>Cure.</b> {}</p></div>", diagnosis.remedy())?;
    }
    Ok(())
}

/// The scenarios: what the broken form left behind, and what is left of it in the fixed one.
fn scenarios(out: &mut String, report: &Report) -> Result {
    if report.scenarios.is_empty() {
        return Ok(());
    }
    section(out, "scenarios", "Scenarios, broken and fixed")?;
    let rows: Vec<Row> = report
        .scenarios
        .iter()
        .map(|scenario| {
            let Scenario { domain, scenario, form, fields } = scenario;
            let mut row: Row = vec![
                ("domain".into(), format!("d{domain}")),
                ("scenario".into(), scenario.clone()),
                ("form".into(), form.clone()),
            ];
            row.extend(judged(form, fields));
            row.extend(fields.0.iter().cloned());
            row
        })
        .collect();
    table(out, &rows)
}

/// Whether a scenario ended as it must: all that was seeded was caught, or nothing was left.
fn judged(form: &str, fields: &Fields) -> Option<(String, String)> {
    let number = |key| fields.number(key);
    let good = match form {
        "broken" => {
            let seeded = number("seeded")?;
            number("refused")? == seeded && number("named").is_none_or(|named| named == seeded)
        }
        "fixed" => number("refused")? == 0,
        _ => return None,
    };
    Some(("as it should".into(), if good { "yes" } else { "NO" }.into()))
}

fn costs(out: &mut String, report: &Report) -> Result {
    if report.curves.is_empty() {
        return Ok(());
    }
    section(out, "costs", "What a pin costs, by policy")?;
    for chart in curves::charts(report) {
        plate(out, &chart.svg)?;
    }
    let rows: Vec<Row> = report
        .curves
        .iter()
        .map(|point| {
            let mut row: Row = vec![
                ("policy".into(), point.policy.clone()),
                ("outstanding".into(), point.outstanding.to_string()),
            ];
            let values = point.values.iter();
            row.extend(values.map(|(key, value)| (key.replace('_', " "), value.to_string())));
            row
        })
        .collect();
    writeln!(out, "<details><summary>All figures</summary>")?;
    table(out, &rows)?;
    writeln!(out, "</details>")
}

fn violations(out: &mut String, report: &Report) -> Result {
    if report.violations.is_empty() {
        return Ok(());
    }
    section(out, "violations", &format!("Violations: {}", report.violations.len()))?;
    // Shared out among the kinds, so that a frequent one doesn't leave the others without.
    let kinds = report.summary.len().max(1);
    let (pictures, rows) = ((PICTURES / kinds).max(1), (ROWS / kinds).max(1));
    for (number, group) in report.summary.iter().enumerate() {
        kind(out, report, group, number, pictures, rows)?;
    }
    Ok(())
}

fn kind(
    out: &mut String,
    report: &Report,
    group: &Group,
    number: usize,
    pictures: usize,
    rows: usize,
) -> Result {
    let class = tone(group.diagnosis);
    writeln!(
        out,
        "<div class=\"card {class}\" id=\"kind-{number}\"><h3>{} × {} {}</h3>",
        group.count,
        escape(&group.what),
        escape(&group.in_regions())
    )?;
    let members: Vec<&Violation> =
        group.members.iter().filter_map(|at| report.violations.get(*at)).collect();
    let (drawn, rest) = members.split_at(members.len().min(pictures));
    for (at, one) in drawn.iter().enumerate() {
        // The first is open; of others, one sees the line and may open them.
        if at == 1 {
            writeln!(out, "<details><summary>{} more with pictures</summary>", drawn.len() - 1)?;
        }
        whole(out, one, at == 0)?;
    }
    if drawn.len() > 1 {
        writeln!(out, "</details>")?;
    }
    let (listed, left) = rest.split_at(rest.len().min(rows));
    if !listed.is_empty() {
        writeln!(out, "<details><summary>{} more in a table</summary>", listed.len())?;
        let rows: Vec<Row> = listed.iter().map(|one| line(one)).collect();
        table(out, &rows)?;
        writeln!(out, "</details>")?;
    }
    if !left.is_empty() {
        writeln!(
            out,
            "<p class=soft>And {} more: <code>cargo xtask report LOG --full</code> or <code>--json</code> \
             has all of them.</p>",
            left.len()
        )?;
    }
    writeln!(out, "</div>")
}

/// A violation with everything that is known of it.
fn whole(out: &mut String, one: &Violation, open: bool) -> Result {
    let id = one.id.map_or("?".into(), |id| id.to_string());
    writeln!(
        out,
        "<details class=v{}><summary><b>#{id}</b> {:.6} s, {}: {} <code>frame {}</code></summary>",
        if open { " open" } else { "" },
        one.time,
        escape(&one.who),
        escape(one.op()),
        escape(one.frame())
    )?;
    writeln!(out, "<div class=wide>{}</div>", violation::picture(one))?;
    if let Some(why) = one.fields.get("why") {
        writeln!(out, "<p>{}</p>", escape(why))?;
    }
    if let Some(mark) = &one.mark {
        writeln!(out, "<p>During: {}</p>", escape(mark))?;
    }
    if let Some(place) = chain(&one.calls) {
        writeln!(out, "<p>Asked for in <code>{}</code></p>", escape(&place))?;
    }
    if one.search.get("cut_short") == Some("yes") {
        writeln!(out, "<p>The search was cut short: there may be more mappings.</p>")?;
    }
    writeln!(out, "<details><summary>every field</summary>")?;
    table(out, &one.mappings.iter().map(text::row).collect::<Vec<_>>())?;
    let mut rest = one.fields.clone();
    rest.0.retain(|(key, _)| key != "why" && key != "id");
    rest.0.extend(one.search.0.iter().cloned());
    writeln!(out, "<p class=soft><code>{}</code></p>", escape(&rest.joined()))?;
    writeln!(out, "</details></details>")
}

/// A violation as a row.
fn line(one: &Violation) -> Row {
    let worst = one.worst();
    let of_worst = |get: fn(&crate::report::model::Mapping) -> Option<String>| {
        worst.and_then(get).unwrap_or_default()
    };
    let cells = [
        ("id", one.id.map_or("?".into(), |id| id.to_string())),
        ("seconds", format!("{:.6}", one.time)),
        ("who", one.who.clone()),
        ("operation", one.op().to_owned()),
        ("frame", one.frame().to_owned()),
        ("mappings", one.mappings.len().to_string()),
        ("at", of_worst(|mapping| mapping.va.clone())),
        ("table", of_worst(|mapping| mapping.table.clone())),
        ("entry", of_worst(|mapping| mapping.index.map(|index| index.to_string()))),
        ("during", one.mark.clone().unwrap_or_default()),
    ];
    cells.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn refusals(out: &mut String, report: &Report) -> Result {
    if report.refusals.is_empty() {
        return Ok(());
    }
    section(out, "refusals", "Other refusals")?;
    let rows = report.refusals.iter().map(|one| {
        let cells = [
            ("count", one.count.to_string()),
            ("domain", one.who.clone()),
            ("operation", one.op.clone()),
            ("cause", one.cause.clone()),
            ("the first of them", one.first.clone()),
        ];
        cells.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    });
    table(out, &rows.collect::<Vec<_>>())
}

fn domains(out: &mut String, report: &Report) -> Result {
    section(out, "domains", "Domains")?;
    let rows = report.domains.iter().map(|domain| {
        let cells = [
            ("domain", format!("d{}", domain.id)),
            ("name", domain.name.clone()),
            ("violations", domain.violations.to_string()),
            ("other refusals", domain.refused.to_string()),
            ("end", domain.ended.clone()),
            ("verdict", domain.verdict.clone().unwrap_or_default()),
        ];
        cells.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    });
    table(out, &rows.collect::<Vec<_>>())
}

fn crashes(out: &mut String, report: &Report) -> Result {
    for crash in &report.crashes {
        section(out, "crash", &format!("Crash of {}", crash.who))?;
        writeln!(out, "<p><code>{}</code></p>", escape(&crash.fields.joined()))?;
        if let Some(place) = chain(&crash.calls) {
            writeln!(out, "<p>In <code>{}</code></p>", escape(&place))?;
        }
        writeln!(out, "<pre>{}</pre>", escape(&crash.dump.join("\n")))?;
    }
    for panic in &report.panics {
        section(out, "panic", "The hypervisor panicked")?;
        writeln!(out, "<p><code>{}</code></p>\n<pre>", escape(&panic.text))?;
        panic.dump.iter().try_for_each(|line| writeln!(out, "{}", escape(line)))?;
        for frame in &panic.backtrace {
            let place = chain(&frame.calls).unwrap_or_else(|| "?".into());
            writeln!(out, "{:#018x} {}", frame.address, escape(&place))?;
        }
        writeln!(out, "</pre>")?;
    }
    Ok(())
}

/// A table with a column for each key. Numbers stand at the right, long texts may wrap.
fn table(out: &mut String, rows: &[Row]) -> Result {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = columns(rows);
    let class: BTreeMap<&str, &str> = keys
        .iter()
        .map(|key| {
            let cells = || rows.iter().map(|row| cell(row, key));
            let numbers = cells().all(|text| text.parse::<f64>().is_ok() || text.is_empty());
            let long = cells().any(|text| text.len() > 40);
            (
                *key,
                if numbers {
                    " class=n"
                } else if long {
                    " class=free"
                } else {
                    ""
                },
            )
        })
        .collect();
    write!(out, "<div class=wide><table><tr>")?;
    keys.iter().try_for_each(|key| write!(out, "<th{}>{}", class[key], escape(key)))?;
    for row in rows {
        write!(out, "\n<tr>")?;
        keys.iter()
            .try_for_each(|key| write!(out, "<td{}>{}", class[key], escape(cell(row, key))))?;
    }
    writeln!(out, "</table></div>")
}
