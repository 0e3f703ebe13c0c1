//! A violation as a picture: who asked, the frame, and the mappings in the way.

use super::svg::{Anchor, Area, LEADING, Svg};
use super::tone;
use crate::report::diagnosis::Diagnosis;
use crate::report::model::{Mapping, Rule, Violation};

const WIDTH: f64 = 920.0;
/// Columns: left side and width.
const ASKED: (f64, f64) = (10.0, 250.0);
const FRAME: (f64, f64) = (330.0, 200.0);
const MAPPINGS: (f64, f64) = (610.0, 300.0);
/// Mappings that are drawn.
const SHOWN: usize = 5;
/// Of a mapping's box, and from one to the next.
const BOX: f64 = 62.0;
const STEP: f64 = 72.0;
/// Above the boxes.
const TOP: f64 = 34.0;

/// The picture.
pub(super) fn picture(one: &Violation) -> String {
    let shown = one.mappings.len().min(SHOWN);
    let more = one.mappings.len() - shown;
    let rows =
        STEP * shown.max(1) as f64 - (STEP - BOX) + if more > 0 { LEADING + 6.0 } else { 0.0 };
    let tall = rows.max(4.0 * LEADING + 20.0);
    let mut svg = Svg::new(WIDTH, TOP + tall + 12.0);
    let middle = TOP + tall / 2.0;
    let heads = [(ASKED, "asked for by"), (FRAME, "the frame"), (MAPPINGS, "in the way")];
    for ((x, w), words) in heads {
        svg.text((x + 2.0, 20.0), Anchor::Start, w, "soft", words);
    }
    frame(&mut svg, one, middle);
    asked(&mut svg, one, middle);
    let first = TOP + (tall - rows) / 2.0;
    if shown == 0 {
        let words = match one.search.get("found") {
            Some("0") => "no mapping: a reference",
            _ => "not in the log",
        };
        let (x, w) = MAPPINGS;
        let area = Area { x, y: middle - BOX / 2.0, w, h: BOX };
        svg.boxed(area, "unknown", &[("mono", words.into())]);
        svg.arrow((x, middle), (FRAME.0 + FRAME.1, middle), "unknown");
    }
    for (row, mapping) in one.mappings.iter().take(shown).enumerate() {
        let y = first + STEP * row as f64;
        let spread = (row as f64 - (shown - 1) as f64 / 2.0) * 10.0;
        draw(&mut svg, one, mapping, y, middle + spread);
    }
    if more > 0 {
        let (x, w) = MAPPINGS;
        let y = first + STEP * shown as f64 + 6.0;
        svg.text((x + 2.0, y), Anchor::Start, w, "soft", &format!("and {more} more"));
    }
    svg.finish(&words(one))
}

/// The frame in the middle.
fn frame(svg: &mut Svg, one: &Violation, middle: f64) {
    let field = |key| one.fields.get(key).filter(|value| *value != "none");
    let mut lines = vec![("mono strong", format!("frame {}", one.frame()))];
    lines.extend(field("pfn").map(|pfn| ("mono", format!("guest page {pfn}"))));
    match one.rule {
        Rule::Alias => {
            lines.extend(
                field("wanted").map(|wanted| ("mono", format!("wanted: {}", kind(wanted)))),
            );
            if let Some(seen) = field("seen") {
                let count = field("count").map(|count| format!(" x {count}")).unwrap_or_default();
                lines.push(("mono", format!("is: {}{count}", kind(seen))));
            }
        }
        Rule::Cache => {
            lines.extend(
                field("wanted").map(|kind| ("mono", format!("wanted: {}", kind.to_uppercase()))),
            );
            lines.extend(
                field("present").map(|kind| ("mono", format!("is: {}", kind.to_uppercase()))),
            );
        }
    }
    let (x, w) = FRAME;
    let h = LEADING * lines.len() as f64 + 18.0;
    svg.boxed(Area { x, y: middle - h / 2.0, w, h }, "frame", &lines);
}

/// Who wanted it, on the left: the table that has the entry, or the call.
fn asked(svg: &mut Svg, one: &Violation, middle: f64) {
    let mut lines = vec![("mono strong", format!("{} by {}", one.op(), one.who))];
    if let Some(table) = one.fields.get("table") {
        let level = one.fields.get("level").unwrap_or("?");
        let index = one.fields.get("index").unwrap_or("?");
        lines.push(("mono", format!("L{level} table {table}, entry {index}")));
    }
    for call in one.askers() {
        let name = call.file.rsplit('/').next().unwrap_or_default();
        let line = call.line.map(|line| format!(" {name}:{line}")).unwrap_or_default();
        lines.push(("mono", format!("{}{line}", call.function)));
    }
    if one.calls.is_empty()
        && let Some(rip) = one.fields.get("rip")
    {
        lines.push(("mono", rip.to_owned()));
    }
    let (x, w) = ASKED;
    let h = LEADING * lines.len() as f64 + 18.0;
    svg.boxed(Area { x, y: middle - h / 2.0, w, h }, "asked", &lines);
    let (from, to) = (x + w, FRAME.0);
    svg.arrow((from, middle), (to, middle), "asked");
    let words = if one.healed { "healed" } else { "refused" };
    svg.text(((from + to) / 2.0, middle - 8.0), Anchor::Middle, to - from, "soft", words);
}

/// A mapping on the right, and its arrow to the frame.
fn draw(svg: &mut Svg, one: &Violation, mapping: &Mapping, y: f64, target: f64) {
    let judged = match one.rule {
        Rule::Cache => Diagnosis::CacheType,
        Rule::Alias => Diagnosis::of(mapping, one.pfn()),
    };
    let class = tone(judged);
    let place = match (&mapping.table, mapping.index) {
        (Some(table), Some(index)) => format!("table {table}, entry {index}"),
        (Some(table), None) => format!("table {table}"),
        (None, _) => "table unknown".into(),
    };
    let whose = match (&mapping.region, &mapping.borrower, &mapping.memory_type) {
        (_, Some(borrower), _) => format!("granted to {borrower}"),
        (Some(region), _, kind) => {
            let kind = kind.as_ref().map(|kind| format!(", {}", kind.to_uppercase()));
            format!("{region}: {}{}", mapping.state.word(), kind.unwrap_or_default())
        }
        (None, _, Some(kind)) => format!("{}: {}", kind.to_uppercase(), mapping.state.word()),
        (None, ..) => format!("{}: {}", judged.short(), mapping.state.word()),
    };
    let (x, w) = MAPPINGS;
    let lines = [
        ("mono strong", mapping.va.clone().unwrap_or("no address".into())),
        ("mono", place),
        ("mono", whose),
    ];
    svg.boxed(Area { x, y, w, h: BOX }, class, &lines);
    svg.arrow((x, y + BOX / 2.0), (FRAME.0 + FRAME.1, target), class);
}

fn kind(name: &str) -> String {
    match name.strip_prefix('l') {
        Some(level) if level.len() == 1 => format!("L{level} table"),
        _ => name.to_owned(),
    }
}

/// The same in a sentence.
fn words(one: &Violation) -> String {
    let mut out = format!("{} by {} wants frame {}", one.op(), one.who, one.frame());
    out += &match one.mappings.len() {
        0 => "; no mapping is listed".to_owned(),
        1 => "; one mapping is in the way".to_owned(),
        many => format!("; {many} mappings are in the way"),
    };
    for mapping in one.mappings.iter().take(SHOWN) {
        let va = mapping.va.as_deref().unwrap_or("no address");
        let region =
            mapping.region.as_deref().map(|name| format!(" in {name}")).unwrap_or_default();
        out += &format!(", at {va}{region}, {}", mapping.state.word());
    }
    out
}
