//! The page's sections, the most important first.

use super::{PICTURES, ROWS, curves, frame_map, timeline, tone, violation};
use crate::report::model::{Domain, Fields, Report, Scenario, Violation, chain};
use crate::report::summary::Group;
use crate::report::text::{self, Row, cell, columns};
use maud::{Markup, PreEscaped, html};

/// Everything between the page's head and its end.
pub(super) fn all(report: &Report, source: &str) -> Markup {
    html! {
        (head(report, source))
        (causes(report))
        @if let Some(svg) = timeline::picture(report) {
            (title("when", "When"))
            (plate(&svg))
        }
        (scenarios(report))
        (costs(report))
        @for map in &report.frame_maps {
            @if let Some(svg) = frame_map::picture(report, map) {
                (title(
                    &format!("frames-{}", map.domain),
                    &format!("Frames of {} at its end", report.domain_name(map.domain)),
                ))
                p.soft {
                    "Each row is a stretch of machine memory, frame numbers at the left. A ring marks \
                     a frame that was refused."
                }
                (plate(&svg))
            }
        }
        (violations(report))
        (refusals(report))
        (domains(report))
        (crashes(report))
        footer.soft {
            @if !report.end.0.is_empty() {
                p { "End: " code { (report.end.joined()) } }
            }
            p { (report.skipped.words().unwrap_or("Every line of the log was read.".into())) }
        }
    }
}

fn title(id: &str, title: &str) -> Markup {
    html! { h2 id=(id) { (title) } }
}

fn plate(svg: &str) -> Markup {
    html! { div.plate.wide { (PreEscaped(svg)) } }
}

fn head(report: &Report, source: &str) -> Markup {
    let sum = |count: fn(&Domain) -> u64| report.domains.iter().map(count).sum::<u64>();
    let tiles = [
        (report.violations.len() as u64, "violations"),
        (report.summary.len() as u64, "kinds"),
        (report.domains.len() as u64, "domains"),
        (sum(|domain| domain.refused), "other refusals"),
        (report.crashes.len() as u64, "crashes"),
        (sum(|domain| domain.dropped), "records left out"),
    ];
    html! {
        h1 { "Pinfold report" }
        p.soft { (source) }
        p.lead { (report.headline()) }
        @for panic in &report.panics {
            p.alarm {
                "The hypervisor panicked: " code { (panic.text) } " (" a href="#panic" { "more" } ")"
            }
        }
        @if report.end.0.is_empty() {
            p.alarm { "The log ends without an END record: the run was cut short." }
        }
        div.tiles {
            @for (count, name) in tiles {
                div.tile { b { (count) } (name) }
            }
        }
    }
}

/// What was found and what cures it: a card for each cause, its kinds as rows.
fn causes(report: &Report) -> Markup {
    if report.summary.is_empty() {
        return html! {};
    }
    html! {
        (title("causes", "What was found, and what cures it"))
        @for (diagnosis, kinds) in report.causes() {
            @let class = tone(diagnosis);
            @let count: u64 = kinds.iter().map(|(_, group)| group.count).sum();
            @let healed: u64 = kinds.iter().map(|(_, group)| group.healed).sum();
            div.card.(class) {
                h3 { (count) " × " (diagnosis.title()) }
                p {
                    span.chip.(class) { (diagnosis.short()) }
                    @if healed > 0 { span.chip.good { (healed) " healed" } }
                    span.soft { (diagnosis.explanation()) }
                }
                div.wide {
                    table {
                        tr {
                            th.n { "count" } th { "region" } th { "domain" } th { "asked for in" }
                            th { "operations" } th { "first, s" } th { "last, s" } th {}
                        }
                        @for (number, group) in kinds { (cause(report, number, group)) }
                    }
                }
                p.cure { b { "Cure." } " " (diagnosis.remedy()) }
            }
        }
    }
}

/// A kind as a row of its cause.
fn cause(report: &Report, number: usize, group: &Group) -> Markup {
    let domain = group.domain.map_or("the hypervisor".into(), |id| report.domain_name(id));
    html! {
        tr {
            td.n { (group.count) }
            td { (group.regions.join(", ")) }
            td { (domain) }
            td {
                @for (at, call) in group.askers.iter().enumerate() {
                    @if at > 0 { br; }
                    (call.brief())
                }
            }
            td.free { (group.operations()) }
            td { (format_args!("{:.4}", group.first)) }
            td { (format_args!("{:.4}", group.last)) }
            td { a href={ "#kind-" (number) } { "show" } }
        }
    }
}

/// The scenarios: what the broken form left behind, and what is left of it in the fixed one.
fn scenarios(report: &Report) -> Markup {
    if report.scenarios.is_empty() {
        return html! {};
    }
    let row = |scenario: &Scenario| {
        let Scenario { domain, scenario, form, fields } = scenario;
        let mut row: Row = vec![
            ("domain".into(), format!("d{domain}")),
            ("scenario".into(), scenario.clone()),
            ("form".into(), form.clone()),
        ];
        row.extend(judged(form, fields));
        row.extend(fields.0.iter().cloned());
        row
    };
    html! {
        (title("scenarios", "Scenarios, broken and fixed"))
        (table(&report.scenarios.iter().map(row).collect::<Vec<_>>()))
    }
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

fn costs(report: &Report) -> Markup {
    if report.curves.is_empty() {
        return html! {};
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
    html! {
        (title("costs", "What a pin costs, by policy"))
        @for chart in curves::charts(report) { (plate(&chart.svg)) }
        details {
            summary { "All figures" }
            (table(&rows))
        }
    }
}

fn violations(report: &Report) -> Markup {
    if report.violations.is_empty() {
        return html! {};
    }
    // Shared out among the kinds, so that a frequent one doesn't leave the others without.
    let kinds = report.summary.len().max(1);
    let (pictures, rows) = ((PICTURES / kinds).max(1), (ROWS / kinds).max(1));
    html! {
        (title("violations", &format!("Violations: {}", report.violations.len())))
        @for (number, group) in report.summary.iter().enumerate() {
            (kind(report, group, number, pictures, rows))
        }
    }
}

/// A kind: the first of its violations open, some more with pictures, and others as rows.
fn kind(report: &Report, group: &Group, number: usize, pictures: usize, rows: usize) -> Markup {
    let members: Vec<&Violation> =
        group.members.iter().filter_map(|at| report.violations.get(*at)).collect();
    let (drawn, rest) = members.split_at(members.len().min(pictures));
    let (listed, left) = rest.split_at(rest.len().min(rows));
    html! {
        div.card.(tone(group.diagnosis)) id={ "kind-" (number) } {
            h3 { (group.count) " × " (group.what) " " (group.in_regions()) }
            @if let [first, more @ ..] = drawn {
                (whole(first, true))
                @if !more.is_empty() {
                    details {
                        summary { (more.len()) " more with pictures" }
                        @for one in more { (whole(one, false)) }
                    }
                }
            }
            @if !listed.is_empty() {
                details {
                    summary { (listed.len()) " more in a table" }
                    (table(&listed.iter().map(|one| line(one)).collect::<Vec<_>>()))
                }
            }
            @if !left.is_empty() {
                p.soft {
                    "And " (left.len()) " more: " code { "cargo xtask report LOG --full" } " or "
                    code { "--json" } " has all of them."
                }
            }
        }
    }
}

/// A violation with everything that is known of it.
fn whole(one: &Violation, open: bool) -> Markup {
    let id = one.id.map_or("?".into(), |id| id.to_string());
    let mut rest = one.fields.clone();
    rest.0.retain(|(key, _)| key != "why" && key != "id");
    rest.0.extend(one.search.0.iter().cloned());
    html! {
        details.v open[open] {
            summary {
                b { "#" (id) } (format_args!(" {:.6} s, {}: {} ", one.time, one.who, one.op()))
                code { "frame " (one.frame()) }
            }
            div.wide { (PreEscaped(violation::picture(one))) }
            @if let Some(why) = one.fields.get("why") { p { (why) } }
            @if let Some(mark) = &one.mark { p { "During: " (mark) } }
            @if let Some(place) = chain(&one.calls) { p { "Asked for in " code { (place) } } }
            @if one.search.get("cut_short") == Some("yes") {
                p { "The search was cut short: there may be more mappings." }
            }
            details {
                summary { "every field" }
                (table(&one.mappings.iter().map(text::row).collect::<Vec<_>>()))
                p.soft { code { (rest.joined()) } }
            }
        }
    }
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

fn refusals(report: &Report) -> Markup {
    if report.refusals.is_empty() {
        return html! {};
    }
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
    html! {
        (title("refusals", "Other refusals"))
        (table(&rows.collect::<Vec<_>>()))
    }
}

fn domains(report: &Report) -> Markup {
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
    html! {
        (title("domains", "Domains"))
        (table(&rows.collect::<Vec<_>>()))
    }
}

fn crashes(report: &Report) -> Markup {
    html! {
        @for crash in &report.crashes {
            (title("crash", &format!("Crash of {}", crash.who)))
            p { code { (crash.fields.joined()) } }
            @if let Some(place) = chain(&crash.calls) { p { "In " code { (place) } } }
            pre { (crash.dump.join("\n")) }
        }
        @for panic in &report.panics {
            (title("panic", "The hypervisor panicked"))
            p { code { (panic.text) } }
            pre {
                @for line in &panic.dump { (line) "\n" }
                @for frame in &panic.backtrace {
                    (format_args!("{:#018x} ", frame.address))
                    (chain(&frame.calls).unwrap_or_else(|| "?".into())) "\n"
                }
            }
        }
    }
}

/// A table with a column for each key. Numbers stand at the right, long texts may wrap.
fn table(rows: &[Row]) -> Markup {
    if rows.is_empty() {
        return html! {};
    }
    let class = |key: &str| {
        let cells = || rows.iter().map(|row| cell(row, key));
        if cells().all(|text| text.parse::<f64>().is_ok() || text.is_empty()) {
            Some("n")
        } else {
            cells().any(|text| text.len() > 40).then_some("free")
        }
    };
    let keys: Vec<_> = columns(rows).into_iter().map(|key| (key, class(key))).collect();
    html! {
        div.wide {
            table {
                tr {
                    @for (key, class) in &keys { th class=[*class] { (key) } }
                }
                @for row in rows {
                    tr {
                        @for (key, class) in &keys { td class=[*class] { (cell(row, key)) } }
                    }
                }
            }
        }
    }
}
