//! When the violations happened: a lane for each kind.

use super::svg::{Anchor, Area, Svg, ticks};
use super::tone;
use crate::report::model::Report;
use crate::report::summary::Group;

const WIDTH: f64 = 920.0;
/// Where the lanes begin and end.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 900.0;
/// Of a lane.
const LANE: f64 = 34.0;
const TOP: f64 = 16.0;
/// Steps of time that are told apart.
const BINS: usize = 130;
/// Lanes that are drawn; the kinds beyond are the rarest.
const LANES: usize = 14;

/// The picture; `None` if there were no violations.
pub(super) fn picture(report: &Report) -> Option<String> {
    let groups: Vec<&Group> = report.summary.iter().take(LANES).collect();
    let first = groups.iter().map(|group| group.first).reduce(f64::min)?;
    let last = groups.iter().map(|group| group.last).reduce(f64::max)?;
    // A single moment gets some time around it.
    let margin = ((last - first) * 0.02).max(1e-4);
    let (from, to) = ((first - margin).max(0.0), last + margin);
    let x = |time: f64| LEFT + (time - from) / (to - from) * (RIGHT - LEFT);
    let bottom = TOP + LANE * groups.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + 40.0);
    for tick in ticks(from, to, 8) {
        let x = x(tick);
        svg.line((x, TOP), (x, bottom), "grid");
        let digits = if to - from < 0.05 { 4 } else { 2 };
        svg.text((x, bottom + 16.0), Anchor::Middle, 80.0, "soft", &format!("{tick:.digits$}"));
    }
    svg.text(
        ((LEFT + RIGHT) / 2.0, bottom + 34.0),
        Anchor::Middle,
        400.0,
        "soft",
        "seconds since the machine started",
    );
    for (row, group) in groups.iter().enumerate() {
        let base = TOP + LANE * (row + 1) as f64;
        svg.line((LEFT, base), (RIGHT, base), "axis");
        let name = match group.regions.as_slice() {
            [] => group.diagnosis.short().to_owned(),
            regions => format!("{} {}", regions.join("+"), group.diagnosis.short()),
        };
        let domain = group.domain.map(|id| format!("d{id} ")).unwrap_or_default();
        let label = format!("{domain}{name} ({})", group.count);
        svg.text((LEFT - 10.0, base - 10.0), Anchor::End, LEFT - 14.0, "", &label);
        bars(&mut svg, report, group, base, (from, to));
    }
    let words = groups.iter().map(|group| {
        let (first, last) = (group.first, group.last);
        format!(
            "{} times {} {} from {first:.3} to {last:.3} s",
            group.count,
            group.what,
            group.in_regions()
        )
    });
    Some(svg.finish(&format!("Time line: {}", words.collect::<Vec<_>>().join("; "))))
}

/// How many in each step of time; tall is many, on a logarithmic scale.
fn bars(svg: &mut Svg, report: &Report, group: &Group, base: f64, (from, to): (f64, f64)) {
    let mut bins = [0_u64; BINS];
    for time in group.members.iter().filter_map(|at| report.violations.get(*at)).map(|one| one.time)
    {
        let at = (time - from) / (to - from) * BINS as f64;
        bins[(at as usize).min(BINS - 1)] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or(1).max(1) as f64;
    let wide = (RIGHT - LEFT) / BINS as f64;
    for (bin, count) in bins.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let tall = 5.0 + (LANE - 13.0) * (count as f64).ln_1p() / most.ln_1p();
        let x = LEFT + wide * bin as f64;
        let time = from + (to - from) * (bin as f64 + 0.5) / BINS as f64;
        let area = Area { x, y: base - tall, w: (wide - 1.0).max(1.0), h: tall };
        svg.rect(
            area,
            &format!("bar {}", tone(group.diagnosis)),
            &format!("{count} around {time:.4} s"),
        );
    }
}
