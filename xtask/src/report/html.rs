//! The report as one page that needs nothing else.

use super::model::{Fields, Report, value};
use super::text::{columns, joined};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em}\
table{border-collapse:collapse;margin:.5em 0}th,td{border:1px solid #ccc;padding:.2em .6em;\
text-align:left;vertical-align:top}td,pre,code{font-family:ui-monospace,monospace;font-size:13px}\
th{background:#eee;color:#222}details{margin:.4em 0}summary{cursor:pointer}.bad{color:#b00020}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th{background:#333;color:#ddd}\
th,td{border-color:#444}.bad{color:#ff7b8a}}";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    out +=
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Pinfold report</title>\n";
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<style>{STYLE}</style>\n<h1>Pinfold report</h1>");
    let _ = body(&mut out, report);
    out + "</html>\n"
}

fn body(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.end.is_empty() {
        writeln!(
            out,
            "<p class=bad>The log ends without an END record: the run was cut short.</p>"
        )?;
    } else {
        writeln!(out, "<p>{}</p>", escape(&joined(&report.end)))?;
    }
    for panic in &report.panics {
        writeln!(
            out,
            "<h2 class=bad>The hypervisor panicked</h2><p>{}</p><pre>",
            escape(&panic.text)
        )?;
        panic.dump.iter().try_for_each(|line| writeln!(out, "{}", escape(line)))?;
        for frame in &panic.backtrace {
            let place = frame.place.as_deref().unwrap_or("?");
            writeln!(out, "{:#018x} {}", frame.address, escape(place))?;
        }
        writeln!(out, "</pre>")?;
    }
    writeln!(out, "<h2>Domains</h2>")?;
    let rows: Vec<Fields> = report
        .domains
        .iter()
        .map(|domain| {
            row([
                ("domain", format!("d{}", domain.id)),
                ("name", domain.name.clone()),
                ("end", domain.ended.clone()),
                ("verdict", domain.verdict.clone().unwrap_or_default()),
                ("aliases", domain.aliases.to_string()),
                ("refused", domain.refused.to_string()),
                ("records left out", domain.dropped.to_string()),
            ])
        })
        .collect();
    table(out, &rows)?;
    writeln!(out, "<h2>Alias violations: {}</h2>", report.violations.len())?;
    for violation in &report.violations {
        let why = value(&violation.fields, "why").unwrap_or("an alias was met");
        writeln!(
            out,
            "<details open><summary>{:.6} s, {}: {}</summary>",
            violation.time,
            escape(&violation.who),
            escape(why)
        )?;
        if let Some(mark) = &violation.mark {
            writeln!(out, "<p>During: {}</p>", escape(mark))?;
        }
        if let Some(place) = &violation.place {
            writeln!(out, "<p>Asked for in <code>{}</code></p>", escape(place))?;
        }
        let rest = violation.fields.iter().filter(|(key, _)| key != "why");
        writeln!(out, "<p><code>{}</code></p>", escape(&joined(&rest.cloned().collect())))?;
        if value(&violation.search, "cut_short") == Some("yes") {
            writeln!(out, "<p>The search was cut short: there may be more mappings.</p>")?;
        }
        table(out, &violation.mappings)?;
        writeln!(out, "</details>")?;
    }
    if !report.refusals.is_empty() {
        writeln!(out, "<h2>Refusals</h2>")?;
        let rows: Vec<Fields> = report
            .refusals
            .iter()
            .map(|one| {
                row([
                    ("count", one.count.to_string()),
                    ("domain", one.who.clone()),
                    ("operation", one.op.clone()),
                    ("cause", one.cause.clone()),
                    ("the first of them", one.first.clone()),
                ])
            })
            .collect();
        table(out, &rows)?;
    }
    for crash in &report.crashes {
        writeln!(
            out,
            "<h2>Crash of {}</h2><p>{}</p>",
            escape(&crash.who),
            escape(&joined(&crash.fields))
        )?;
        if let Some(place) = &crash.place {
            writeln!(out, "<p>In <code>{}</code></p>", escape(place))?;
        }
        writeln!(out, "<pre>{}</pre>", escape(&crash.dump.join("\n")))?;
    }
    let skipped = report.skipped;
    writeln!(
        out,
        "<p>Passed over: {} lines that are no records, {} records whose head is missing.</p>",
        skipped.garbled, skipped.orphans
    )
}

fn row<const N: usize>(cells: [(&str, String); N]) -> Fields {
    cells.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn table(out: &mut String, rows: &[Fields]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = columns(rows);
    write!(out, "<table><tr>")?;
    keys.iter().try_for_each(|key| write!(out, "<th>{}", escape(key)))?;
    for row in rows {
        write!(out, "\n<tr>")?;
        keys.iter()
            .try_for_each(|key| write!(out, "<td>{}", escape(value(row, key).unwrap_or(""))))?;
    }
    writeln!(out, "</table>")
}

/// Text of a guest must stay text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_put_markup_into_the_page() {
        let log = "[   0.100000] d1 START name=\"<script>\"\n[   0.200000] d1 REFUSED op=<b>&\n\
                   [   0.300000] d1 | VERDICT pass <img src=x>\n";
        let page = page(&Report::read(log));
        for text in ["<script>", "<b>", "<img"] {
            assert!(!page.contains(text), "{text}");
        }
        assert!(page.contains("&lt;script&gt;"));
    }
}
