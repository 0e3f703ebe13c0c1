//! Counts, marks and sets by frame number: a lookup takes the same time however many there are.

use crate::addr::Pfn;
use alloc::vec::Vec;

/// A number for each frame, 0 at first.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<u32>);

impl Counts {
    pub(crate) fn get(&self, pfn: Pfn) -> u32 {
        self.0.get(pfn.0 as usize).copied().unwrap_or(0)
    }

    pub(crate) fn increment(&mut self, pfn: Pfn) {
        let index = pfn.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
    }

    /// # Panics
    ///
    /// If the number is 0.
    pub(crate) fn decrement(&mut self, pfn: Pfn) {
        self.0[pfn.0 as usize] -= 1;
    }
}

/// One bit for each frame, clear at first.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn has(&self, pfn: Pfn) -> bool {
        let word = self.0.get((pfn.0 / 64) as usize);
        word.is_some_and(|word| word & 1 << (pfn.0 % 64) != 0)
    }

    pub(crate) fn set(&mut self, pfn: Pfn) {
        let index = (pfn.0 / 64) as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] |= 1 << (pfn.0 % 64);
    }

    pub(crate) fn clear(&mut self, pfn: Pfn) {
        if let Some(word) = self.0.get_mut((pfn.0 / 64) as usize) {
            *word &= !(1 << (pfn.0 % 64));
        }
    }
}

/// A set of frames, in ascending order.
#[derive(Debug)]
pub(crate) struct FrameSet(Vec<Pfn>);

impl FromIterator<Pfn> for FrameSet {
    fn from_iter<I: IntoIterator<Item = Pfn>>(frames: I) -> FrameSet {
        let mut frames: Vec<Pfn> = frames.into_iter().collect();
        frames.sort_unstable();
        frames.dedup();
        FrameSet(frames)
    }
}

impl FrameSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, pfn: Pfn) -> bool {
        self.0.binary_search(&pfn).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Pfn> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_belongs_to_one_frame() {
        let mut marks = Marks::default();
        for pfn in [0, 63, 64, 200] {
            marks.set(Pfn(pfn));
        }
        marks.clear(Pfn(64));
        marks.clear(Pfn(100_000));
        let marked: Vec<u64> = (0..300).filter(|&pfn| marks.has(Pfn(pfn))).collect();
        assert_eq!(marked, [0, 63, 200]);
    }

    #[test]
    fn counts_start_at_0() {
        let mut counts = Counts::default();
        counts.increment(Pfn(7));
        counts.increment(Pfn(7));
        counts.decrement(Pfn(7));
        assert_eq!([6, 7, 8].map(|pfn| counts.get(Pfn(pfn))), [0, 1, 0]);
    }

    #[test]
    fn a_set_has_each_frame_once() {
        let set: FrameSet = [5, 1, 5, 3].into_iter().map(Pfn).collect();
        assert!(set.contains(Pfn(3)) && !set.contains(Pfn(2)));
        assert_eq!(set.iter().count(), 3);
    }
}
