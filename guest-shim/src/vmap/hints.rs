//! How many dead mappings each frame has: enough to tell which pins have nothing to clear.

use crate::addr::Pfn;
use crate::frames::FrameSet;
use alloc::vec::Vec;

/// Counts the dead mappings of each frame. All dead mappings are cleared at once, so no single
/// count is ever reduced: a new round begins, and the counts of earlier rounds no longer count.
#[derive(Debug)]
pub(super) struct Hints {
    round: u32,
    /// By frame: the round of the count, and the count.
    counts: Vec<(u32, u32)>,
}

impl Default for Hints {
    fn default() -> Hints {
        // Round 0 is the round of frames without a count.
        Hints { round: 1, counts: Vec::new() }
    }
}

impl Hints {
    pub(super) fn add(&mut self, pfn: Pfn) {
        let frame = pfn.0 as usize;
        if frame >= self.counts.len() {
            self.counts.resize(frame + 1, (0, 0));
        }
        let (round, count) = self.counts[frame];
        self.counts[frame] = (self.round, if round == self.round { count + 1 } else { 1 });
    }

    pub(super) fn get(&self, pfn: Pfn) -> u32 {
        match self.counts.get(pfn.0 as usize) {
            Some(&(round, count)) if round == self.round => count,
            _ => 0,
        }
    }

    /// Whether one of these frames may have a dead mapping.
    pub(super) fn any(&self, frames: &FrameSet) -> bool {
        frames.iter().any(|pfn| self.get(pfn) != 0)
    }

    /// Notes that all dead mappings were cleared.
    pub(super) fn clear(&mut self) {
        self.round = match self.round.checked_add(1) {
            Some(round) => round,
            None => {
                self.counts.clear();
                1
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_earlier_rounds_are_void() {
        let mut hints = Hints::default();
        for pfn in [3, 3, 5] {
            hints.add(Pfn(pfn));
        }
        assert_eq!([3, 4, 5, 9].map(|pfn| hints.get(Pfn(pfn))), [2, 0, 1, 0]);
        hints.clear();
        assert_eq!(hints.get(Pfn(3)), 0);
        hints.add(Pfn(3));
        assert_eq!(hints.get(Pfn(3)), 1);
        let frames: FrameSet = [5, 9].into_iter().map(Pfn).collect();
        assert!(!hints.any(&frames));
    }

    #[test]
    fn round_numbers_may_wrap() {
        let mut hints = Hints { round: u32::MAX, counts: Vec::new() };
        hints.add(Pfn(1));
        hints.clear();
        assert_eq!(hints.get(Pfn(1)), 0);
        hints.add(Pfn(1));
        assert_eq!(hints.get(Pfn(1)), 1);
    }
}
