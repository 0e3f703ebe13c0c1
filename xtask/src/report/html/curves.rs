//! What a pin costs under each policy, by the lazy mappings that are outstanding: log-log.

use super::svg::{Anchor, Svg};
use crate::report::model::{Point, Report};
use crate::report::summary::plural;
use std::collections::{BTreeMap, BTreeSet};

const WIDTH: f64 = 920.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 364.0;
/// Distance of the names at the right.
const NAMES: f64 = 18.0;
/// Kinds of lines in the style sheet.
const STYLES: usize = 8;

/// A policy's points: how many mappings were outstanding, and the figure.
type Series<'r> = BTreeMap<&'r str, Vec<(u64, f64)>>;

/// The figures that are drawn, if they were measured.
const FIGURES: &[(&str, &str)] = &[
    ("instructions_per_pin", "instructions for a pin"),
    ("instructions_per_vunmap", "instructions for letting go of a mapping"),
];

/// A picture and what it may be called.
pub(super) struct Chart {
    /// A file name without its ending.
    pub(super) name: String,
    /// The picture.
    pub(super) svg: String,
}

/// A picture for each figure, and for each number of dead mappings that the pinned tables had.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    let own = |point: &Point| point.values.get("aliases").map_or(0, |count| *count as u64);
    let counts: BTreeSet<u64> = report.curves.iter().map(own).collect();
    let mut out = Vec::new();
    for (key, what) in FIGURES {
        // Letting go of a mapping has nothing to do with a pinned table.
        let most = if key.ends_with("pin") { counts.len() } else { 1 };
        for count in counts.iter().take(most) {
            let points = report.curves.iter().filter(|point| own(point) == *count);
            let (name, title) = match (most, count) {
                (1, _) => (key.replace('_', "-"), (*what).to_owned()),
                (_, 0) => {
                    (key.replace('_', "-"), format!("{what} of tables without dead mappings"))
                }
                (_, n) => {
                    let tables =
                        format!("{what} of tables with {n} dead mapping{}", plural(*n as usize));
                    (format!("{}-{n}", key.replace('_', "-")), tables)
                }
            };
            out.extend(picture(points, key, &title).map(|svg| Chart { name, svg }));
        }
    }
    out
}

/// The picture of one figure; `None` if no point has it.
fn picture<'r>(points: impl Iterator<Item = &'r Point>, key: &str, name: &str) -> Option<String> {
    let mut series = Series::new();
    for point in points {
        if let Some(value) = point.values.get(key) {
            series.entry(&point.policy).or_default().push((point.outstanding, *value));
        }
    }
    series.values_mut().for_each(|points| points.sort_by_key(|(outstanding, _)| *outstanding));
    let points = || series.values().flatten();
    let decades = |value: f64| value.max(1.0).log10();
    let most = points().map(|(outstanding, _)| *outstanding).max()?;
    let right = decades(most as f64).ceil().max(1.0);
    let low = points().map(|(_, value)| decades(*value)).reduce(f64::min)?.floor();
    let high = points().map(|(_, value)| decades(*value)).reduce(f64::max)?.ceil().max(low + 1.0);
    // 0 has no place on a logarithmic scale: it gets one a decade before 1.
    let x = |outstanding: u64| {
        let at = if outstanding == 0 { -1.0 } else { (outstanding as f64).log10() };
        LEFT + (at + 1.0) / (right + 1.0) * (RIGHT - LEFT)
    };
    let y = |value: f64| BOTTOM - (decades(value) - low) / (high - low) * (BOTTOM - TOP);
    let mut svg = Svg::new(WIDTH, BOTTOM + 46.0);
    axes(&mut svg, (low, high), right, &x, &y);
    let names = names(&series, &y);
    for (style, (policy, points)) in series.iter().enumerate() {
        let class = format!("series s{}", style % STYLES);
        let data: Vec<String> = points
            .iter()
            .map(|(outstanding, value)| format!("{:.1} {:.1}", x(*outstanding), y(*value)))
            .collect();
        if data.len() > 1 {
            svg.path(&class, &format!("M{}", data.join("L")));
        }
        for (outstanding, value) in points {
            let (x, y) = (x(*outstanding), y(*value));
            svg.path(&format!("{class} dot"), &marker(style, x, y));
        }
        let Some((outstanding, value)) = points.last() else { continue };
        let at = names[policy];
        let (from, to) = ((x(*outstanding) + 5.0, y(*value)), (RIGHT + 18.0, at));
        svg.line(from, to, "leader");
        svg.path(&format!("{class} dot"), &marker(style, RIGHT + 26.0, at));
        let words = format!("{policy} {}", short(*value));
        svg.text((RIGHT + 38.0, at + 4.0), Anchor::Start, WIDTH - RIGHT - 40.0, "", &words);
    }
    svg.text((LEFT, 12.0), Anchor::Start, 600.0, "strong", name);
    let words = series.iter().map(|(policy, points)| {
        let ends = points.first().zip(points.last());
        let ends = ends.map(|((from, first), (to, last))| {
            format!("from {} at {from} to {} at {to}", short(*first), short(*last))
        });
        format!("{policy} {}", ends.unwrap_or_default())
    });
    Some(svg.finish(&format!(
        "{name} by lazy mappings outstanding: {}",
        words.collect::<Vec<_>>().join("; ")
    )))
}

fn axes(
    svg: &mut Svg,
    (low, high): (f64, f64),
    right: f64,
    x: &impl Fn(u64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    for decade in low as i32..=high as i32 {
        let value = 10_f64.powi(decade);
        svg.line((LEFT, y(value)), (RIGHT, y(value)), "grid");
        svg.text((LEFT - 8.0, y(value) + 4.0), Anchor::End, LEFT - 10.0, "soft", &short(value));
    }
    let decades = (0..=right as u32).map(|decade| 10_u64.saturating_pow(decade));
    for outstanding in std::iter::once(0).chain(decades) {
        let at = x(outstanding);
        svg.line((at, TOP), (at, BOTTOM), "grid");
        svg.text((at, BOTTOM + 18.0), Anchor::Middle, 90.0, "soft", &short(outstanding as f64));
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let words = "lazy mappings outstanding at the pin";
    svg.text((middle, BOTTOM + 38.0), Anchor::Middle, 400.0, "soft", words);
}

/// Where the names stand: at their lines' ends, but not upon each other.
fn names<'r>(series: &Series<'r>, y: &impl Fn(f64) -> f64) -> BTreeMap<&'r str, f64> {
    let mut wanted: Vec<(&str, f64)> = series
        .iter()
        .filter_map(|(policy, points)| points.last().map(|(_, value)| (*policy, y(*value))))
        .collect();
    wanted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut next = TOP + 6.0;
    for (_, at) in &mut wanted {
        *at = at.max(next);
        next = *at + NAMES;
    }
    // Those that were pushed out below are pushed back up.
    let mut limit = BOTTOM;
    for (_, at) in wanted.iter_mut().rev() {
        *at = at.min(limit);
        limit = *at - NAMES;
    }
    wanted.into_iter().collect()
}

/// A policy's mark, so that colour isn't all that tells them apart.
fn marker(style: usize, x: f64, y: f64) -> String {
    match style % 4 {
        0 => format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", x - 4.0),
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        2 => format!("M{x:.1} {:.1}l4.5 8h-9z", y - 5.0),
        _ => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
    }
}

/// A number with at most four characters and a unit.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = usize::from(!unit.is_empty() && scaled < 100.0 && scaled.fract() >= 0.05);
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1000.0, "1000"),
            (10_000.0, "10k"),
            (12_345.0, "12.3k"),
            (1.5e6, "1.5M"),
            (999_400.0, "999k"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn names_keep_their_distance() {
        let mut series = Series::new();
        for (policy, value) in [("a", 5.0), ("b", 5.1), ("c", 5.2), ("d", 9.0)] {
            series.insert(policy, vec![(1, value)]);
        }
        let at = names(&series, &|_| BOTTOM);
        let mut places: Vec<f64> = at.values().copied().collect();
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= NAMES), "{places:?}");
        assert!(places.iter().all(|place| (TOP..=BOTTOM).contains(place)));
    }
}
