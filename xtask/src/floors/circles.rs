//! Circles: files that import each other in a loop.

use super::resolve::Import;
use super::source::Crate;
use std::collections::{BTreeMap, BTreeSet};

/// Files that reach each other by imports, as indices into [`Crate::files`].
#[derive(Debug)]
pub(crate) struct Circle {
    /// The files.
    pub(crate) files: BTreeSet<usize>,
    /// The imports among them: from, to, and the names taken.
    pub(crate) arrows: BTreeMap<(usize, usize), BTreeSet<String>>,
}

/// The circles of a crate, the largest first.
pub(crate) fn find(source: &Crate) -> Vec<Circle> {
    let mut arrows: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
    // A module that is named as a whole ties no files: what is used of it does.
    let between_files =
        |import: &Import<'_>| import.from.file != import.to.file && !import.whole_module;
    for import in source.imports().filter(between_files) {
        let name = import.mention.path.last().cloned().unwrap_or_default();
        arrows.entry((import.from.file, import.to.file)).or_default().insert(name);
    }
    let count = source.files.len();
    let reached: Vec<BTreeSet<usize>> = (0..count).map(|from| reachable(from, &arrows)).collect();
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut circles = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut files: BTreeSet<usize> = left
            .iter()
            .copied()
            .filter(|&it| reached[first].contains(&it) && reached[it].contains(&first))
            .collect();
        left.retain(|file| !files.contains(file));
        if !files.is_empty() {
            files.insert(first);
            let inside = |(from, to): &(usize, usize)| files.contains(from) && files.contains(to);
            let arrows = arrows.iter().filter(|(ends, _)| inside(ends));
            let arrows = arrows.map(|(ends, names)| (*ends, names.clone())).collect();
            circles.push(Circle { files, arrows });
        }
    }
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.files.len()));
    circles
}

/// The files that one leads to by its imports.
fn reachable(from: usize, arrows: &BTreeMap<(usize, usize), BTreeSet<String>>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut to_visit = vec![from];
    while let Some(file) = to_visit.pop() {
        for (&(_, next), _) in arrows.range((file, 0)..=(file, usize::MAX)) {
            if reached.insert(next) {
                to_visit.push(next);
            }
        }
    }
    reached
}
