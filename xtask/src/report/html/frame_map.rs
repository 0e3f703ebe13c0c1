//! What the frames of a domain were at its end: a row of pixels for every few hundred of them.

use super::svg::{Anchor, Area, Svg};
use crate::report::model::{FrameMap, Report, Run};
use crate::report::{USAGES, usage_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const WIDTH: f64 = 920.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 910.0;
const TOP: f64 = 8.0;
/// Rows at most, and frames of one row at least: a table maps 512 pages.
const ROWS: u64 = 128;
const SMALLEST_ROW: u64 = 512;
/// What is narrower could not be seen.
const NARROWEST: f64 = 1.4;
/// Refused frames that get a ring.
const RINGS: usize = 200;

/// How the rows lie.
struct Grid {
    per_row: u64,
    /// Rows that have frames of the domain's, by their first frame.
    rows: Vec<u64>,
    tall: f64,
}

impl Grid {
    fn of(runs: &[Run]) -> Grid {
        let mut per_row = SMALLEST_ROW;
        loop {
            let rows: BTreeSet<u64> =
                runs.iter().flat_map(|run| pieces(run, per_row).map(|(row, ..)| row)).collect();
            if rows.len() as u64 <= ROWS || per_row > 1 << 40 {
                let tall = (420.0 / rows.len().max(1) as f64).clamp(3.0, 12.0);
                return Grid { per_row, rows: rows.into_iter().collect(), tall };
            }
            per_row *= 2;
        }
    }

    /// Where a frame of a row lies: its left side and top.
    fn place(&self, row: u64, within: u64) -> Option<(f64, f64)> {
        let number = self.rows.binary_search(&row).ok()?;
        let x = LEFT + within as f64 * self.wide();
        Some((x, TOP + self.tall * number as f64))
    }

    /// Pixels of a frame.
    fn wide(&self) -> f64 {
        (RIGHT - LEFT) / self.per_row as f64
    }
}

/// A run cut at the ends of rows: first frame of the row, place in it, length. A run can't make
/// more pieces than the longest row has room for: logs may be forged.
fn pieces(run: &Run, per_row: u64) -> impl Iterator<Item = (u64, u64, u64)> + use<> {
    let (mut at, end) = (run.first, run.first.saturating_add(run.frames));
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let row = at / per_row * per_row;
        let length = (end - at).min(row.saturating_add(per_row).saturating_sub(at)).max(1);
        let piece = (row, at - row, length);
        at = at.saturating_add(length);
        Some(piece)
    })
    .take(1 << 16)
}

/// The picture, with its legend; `None` if the map is empty.
pub(super) fn picture(report: &Report, map: &FrameMap) -> Option<String> {
    // What isn't the domain's is not drawn.
    let own: Vec<Run> = map.runs.iter().copied().filter(|run| run.usage != '.').collect();
    if own.is_empty() {
        return None;
    }
    let grid = Grid::of(&own);
    let bottom = TOP + grid.tall * grid.rows.len() as f64;
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    own.iter().for_each(|run| *counts.entry(run.usage).or_default() += run.frames);
    let legend: Vec<char> = USAGES
        .iter()
        .map(|(letter, _)| *letter)
        .filter(|letter| counts.contains_key(letter))
        .collect();
    let lines = legend.len().div_ceil(3) as f64;
    let mut svg = Svg::new(WIDTH, bottom + 20.0 + 20.0 * lines);
    let whole = Area { x: LEFT, y: TOP, w: RIGHT - LEFT, h: bottom - TOP };
    svg.rect(whole, "ground", "");
    let every = (18.0 / grid.tall).ceil() as usize;
    for (number, row) in grid.rows.iter().enumerate().step_by(every.max(1)) {
        let y = TOP + grid.tall * number as f64 + 10.0;
        svg.text((LEFT - 8.0, y), Anchor::End, LEFT - 10.0, "soft", &format!("{row:#x}"));
    }
    for (letter, _) in USAGES {
        let mut data = String::new();
        for run in own.iter().filter(|run| run.usage == *letter) {
            for (row, within, length) in pieces(run, grid.per_row) {
                let Some((x, y)) = grid.place(row, within) else { continue };
                let w = (length as f64 * grid.wide()).max(NARROWEST);
                let h = (grid.tall - 0.5).max(2.0);
                let _ = write!(data, "M{x:.1} {y:.1}h{w:.1}v{h:.1}h-{w:.1}z");
            }
        }
        if !data.is_empty() {
            svg.path(&format!("use-{}", class(*letter)), &data);
        }
    }
    rings(&mut svg, report, map.domain, &grid);
    for (number, letter) in legend.iter().enumerate() {
        let x = LEFT + 276.0 * (number % 3) as f64;
        let y = bottom + 16.0 + 20.0 * (number / 3) as f64;
        svg.rect(Area { x, y, w: 12.0, h: 12.0 }, &format!("use-{}", class(*letter)), "");
        let words = format!("{} {}", counts[letter], usage_name(*letter));
        svg.text((x + 18.0, y + 10.5), Anchor::Start, 250.0, "", &words);
    }
    let words: Vec<String> =
        legend.iter().map(|letter| format!("{} {}", counts[letter], usage_name(*letter))).collect();
    Some(svg.finish(&format!("Frames of d{} at its end: {}", map.domain, words.join(", "))))
}

/// Rings around the frames that violations were about.
fn rings(svg: &mut Svg, report: &Report, domain: u16, grid: &Grid) {
    let own = report.violations.iter().filter(|one| one.domain == Some(domain));
    let frames: BTreeSet<u64> = own.filter_map(|one| one.fields.number("frame")).collect();
    let mut data = String::new();
    for frame in frames.into_iter().take(RINGS) {
        let row = frame / grid.per_row * grid.per_row;
        let Some((x, y)) = grid.place(row, frame - row) else { continue };
        let (x, y) = (x + grid.wide() / 2.0 - 4.0, y + grid.tall / 2.0);
        let _ = write!(data, "M{x:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0");
    }
    if !data.is_empty() {
        svg.path("ring", &data);
    }
}

/// A letter as part of a class's name.
fn class(letter: char) -> &'static str {
    match letter {
        '-' => "idle",
        'w' => "writable",
        '1' => "l1",
        '2' => "l2",
        '3' => "l3",
        '4' => "l4",
        'u' => "unfinished",
        'd' => "descriptors",
        's' => "shared",
        _ => "foreign",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_rows() {
        let run = |first, frames| Run { first, frames, usage: 'w' };
        let cut: Vec<_> = pieces(&run(500, 600), 512).collect();
        assert_eq!(cut, [(0, 500, 12), (512, 0, 512), (1024, 0, 76)]);
        assert!(pieces(&run(u64::MAX - 5, u64::MAX), 512).count() < 3);
        assert_eq!(pieces(&run(0, u64::MAX), 512).count(), 1 << 16, "forged maps have an end");
    }

    #[test]
    fn every_use_has_a_colour() {
        let css = include_str!("palette.css");
        for (letter, _) in USAGES.iter().filter(|(letter, _)| *letter != '.') {
            assert!(css.contains(&format!(".use-{}", class(*letter))), "{letter}");
        }
    }
}
