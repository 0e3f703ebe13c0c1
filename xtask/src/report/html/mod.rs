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
use maud::{DOCTYPE, PreEscaped, html};

/// Violations that have a picture of their own, over all kinds.
const PICTURES: usize = 240;
/// Violations that have a row, over all kinds.
const ROWS: usize = 3000;

/// The whole page. `source` names the log.
pub(super) fn page(report: &Report, source: &str) -> String {
    // The page shows what guests wrote: nothing in it may run or fetch anything, come what may.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Pinfold report: " (source) }
                style {
                    (PreEscaped(include_str!("palette.css"))) (PreEscaped(include_str!("page.css")))
                }
            }
            body { main { (sections::all(report, source)) } }
        }
    };
    // Control characters of a guest are no text.
    let is_no_text = |c: char| c.is_control() && c != '\n' && c != '\t';
    page.into_string().replace(is_no_text, "\u{fffd}") + "\n"
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

// `cargo xtask test page` looks at the page in a browser.
#[cfg(test)]
mod tests {
    use super::*;

    fn report(log: &str) -> Report {
        let mut report = Report::read(log);
        report.summarize();
        report
    }

    #[test]
    fn a_guest_cannot_put_markup_into_the_page() {
        let evil = "<script>alert(1)</script>";
        let log = format!(
            "[   0.100000] d1 START name=\"{evil}\"\n[   0.200000] d1 REFUSED op=<b>& why=\"<img src=x>\"\n\
             [   0.200000] d1 MARK text=\"{evil}\"\n\
             [   0.210000] d1v0 ALIAS id=1 op=<b> frame=<i> wanted=<b> seen=<b> count=<b> pfn=<b> rip=<b> level=<b> table=<b> index=<b> why=\"{evil}\"\n\
             [   0.220000] d1v0 MAPPING id=1 va=<b> table=<b> index=<b> entry=<b> region=\"{evil}\" state=<b> type=<b>\n\
             [   0.220000] d1v0 MAPPING id=1 va=<b> borrower=<b> more=<b>\n\
             [   0.220000] d1v0 CACHE id=2 op=<b> frame=<i> wanted=<b> present=<b>\n\
             [   0.230000] d1 | SCENARIO <b> form=<b> <i>=<b>\n\
             [   0.240000] d1 | CURVE policy=<b> outstanding=1 instructions_per_pin=1 <b>=2\n\
             [   0.250000] d1 FRAMES first=0x1 frames=2 map=\"<b> w\"\n\
             [   0.260000] d1 CRASH reason=<b> rip=<b>\n[   0.270000] d1 DUMP <b>\n\
             [   0.280000] hv PANIC <b>\n[   0.290000] hv DUMP <b>\n\
             [   0.300000] d1 | VERDICT pass <img src=x>\n[   0.310000] hv END guests=<b>\n"
        );
        let report = report(&log);
        let page = page(&report, "<b>.log");
        for text in ["<script", "<b>&", "<img", "<i>", "=<b>", "\"<b>"] {
            assert!(!page.contains(text), "{text}");
        }
        // Of its own the page has bold text in three places only.
        for (at, _) in page.match_indices("<b>") {
            let around = &page[at.saturating_sub(20)..at];
            assert!(
                ["tile\">", "cure\">", "<summary>"].iter().any(|end| around.ends_with(end)),
                "{around}"
            );
        }
        assert!(page.contains("&lt;script&gt;"));
        for picture in pictures(&report) {
            assert!(!picture.svg.contains("<b>") && !picture.svg.contains("<script"));
        }
    }

    #[test]
    fn thousands_still_make_a_page_of_some_kilobytes() {
        let mut log = String::new();
        for id in 0..20_000 {
            let (region, seconds) = (["a", "b", "c"][id % 3], id / 100);
            log += &format!(
                "[{seconds:>4}.000000] d1v0 ALIAS id={id} op=pin_l1 frame={id:#x} rip=0xffffffff80101f04 why=\"it is in the way\"\n\
                 [{seconds:>4}.000001] d1v0 MAPPING id={id} va=0xffff900000000000 table=0x77 index=3 region=\"{region}\" state=dead\n"
            );
        }
        let report = report(&log);
        let page = page(&report, "log");
        assert!(page.len() < 2 << 20, "{}", page.len());
        assert_eq!(page.matches("<details class=\"v\"").count(), PICTURES);
        assert_eq!(page.matches("class=\"picture\"").count(), PICTURES + 1);
        assert!(page.contains("20000 violations, 3 kinds"));
        let (drawn, listed) = (PICTURES / 3, ROWS / 3);
        assert!(page.contains(&format!("And {} more", 6667 - drawn - listed)));
    }

    #[test]
    fn every_picture_has_words_and_stands_alone() {
        let log = include_str!("../sample.log");
        let pictures = pictures(&report(log));
        let kinds = ["timeline", "frames-d1", "instructions-per-pin", "violation-"];
        for kind in kinds {
            assert!(pictures.iter().any(|picture| picture.name.starts_with(kind)), "{kind}");
        }
        for Picture { name, svg } in &pictures {
            assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{name}");
            assert!(
                svg.contains("role=\"img\" aria-label=\"") && svg.contains("prefers-color-scheme")
            );
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            // Each opening tag has its end.
            for tag in ["g", "text", "rect", "style", "svg"] {
                let (open, empty) = (format!("<{tag}"), svg.matches("/>").count());
                let closed = svg.matches(&format!("</{tag}>")).count();
                assert!(svg.matches(&open).count() <= closed + empty, "{name} {tag}");
            }
        }
    }
}
