//! The report as one page that needs nothing else: no network, no scripts, any screen, light and
//! dark. Pictures are SVG with words for those who can't see them.
//!
//! | file | about |
//! |---|---|
//! | `svg` | drawing: boxes, arrows, text that stays in its room |
//! | `timeline`, `frame_map`, `curves`, `violation` | the pictures |
//! | `sections` | what stands around them |
//!
//! A log may have thousands of violations: the first of each kind is shown at once, others fold
//! out, and beyond [`PICTURES`] and [`ROWS`] they are only counted.

mod curves;
mod frame_map;
mod sections;
mod svg;
mod timeline;
mod violation;

use super::diagnosis::Diagnosis;
use super::model::Report;
use std::fmt::Write;

/// Violations that have a picture of their own, over all kinds.
const PICTURES: usize = 240;
/// Violations that have a row, over all kinds.
const ROWS: usize = 3000;

/// The whole page. `source` names the log.
pub(super) fn page(report: &Report, source: &str) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    // The page shows what guests wrote: nothing in it may run or fetch anything, come what may.
    out += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
            style-src 'unsafe-inline'\">\n\
            <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
            <meta name=\"color-scheme\" content=\"light dark\">\n";
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<title>Pinfold report: {}</title>\n<style>\n{}{}</style>\n<main>",
        svg::escape(source),
        include_str!("palette.css"),
        include_str!("page.css")
    );
    let _ = sections::all(&mut out, report, source);
    out + "</main>\n</html>\n"
}

/// A picture as a file of its own.
pub(super) struct Picture {
    /// File name.
    pub(super) name: String,
    /// Its content.
    pub(super) svg: String,
}

/// Every kind of picture that the report has, each as a file of its own; of violations, the first
/// of each kind.
pub(super) fn pictures(report: &Report) -> Vec<Picture> {
    let mut out = Vec::new();
    let mut add = |name: String, svg: Option<String>| {
        out.extend(svg.map(|svg| Picture { name: name + ".svg", svg: alone(&svg) }));
    };
    add("timeline".into(), timeline::picture(report));
    for map in &report.frame_maps {
        add(format!("frames-d{}", map.domain), frame_map::picture(report, map));
    }
    for chart in curves::charts(report) {
        add(chart.name, Some(chart.svg));
    }
    for group in &report.summary {
        let first = group.members.first().and_then(|at| report.violations.get(*at));
        if let Some(one) = first {
            let name = one.id.map_or_else(|| "violation".into(), |id| format!("violation-{id}"));
            add(name, Some(violation::picture(one)));
        }
    }
    out
}

/// A picture with its colours and a ground to stand on.
fn alone(svg: &str) -> String {
    let style = format!(
        ">\n<style>{}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" style=\"fill:var(--card)\"/>\n",
        include_str!("palette.css")
    );
    svg.replacen(">\n", &style, 1)
}

/// The class of a diagnosis: four, so that colours keep a meaning.
fn tone(diagnosis: Diagnosis) -> &'static str {
    match diagnosis {
        Diagnosis::CacheType => "cache",
        Diagnosis::Borrowed
        | Diagnosis::Live
        | Diagnosis::Device
        | Diagnosis::User
        | Diagnosis::LinearMap => "live",
        Diagnosis::NamedRange | Diagnosis::Held | Diagnosis::NotListed => "unknown",
        Diagnosis::CachedSlot | Diagnosis::LazyArea => "dead",
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
