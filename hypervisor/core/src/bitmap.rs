//! The set of free frames: one bit a frame. A search begins where the last one of its order ended.

use pinfold_validator::Mfn;

/// Frames in a word.
const WORD: u64 = u64::BITS as u64;
/// Orders that have a search position of their own; larger ones share the last.
const ORDERS: usize = 16;

/// The set of free frames.
#[derive(Debug)]
pub struct FrameBitmap {
    words: &'static mut [u64],
    /// Frame where the next search begins, for each order. Without it, each of many allocations in a row
    /// would search through all that the ones before it took.
    hints: [u64; ORDERS],
    free: u64,
}

impl FrameBitmap {
    /// An empty set over `words`, which must be zeros.
    pub fn new(words: &'static mut [u64]) -> FrameBitmap {
        FrameBitmap { words, hints: [0; ORDERS], free: 0 }
    }

    /// Frames in the set.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Adds a frame.
    ///
    /// # Panics
    /// If it is in the set already: a double free is a bug in the hypervisor.
    pub fn add(&mut self, mfn: Mfn) {
        let (word, bit) = ((mfn.get() / WORD) as usize, 1 << (mfn.get() % WORD));
        assert!(self.words[word] & bit == 0, "frame {:#x} freed twice", mfn.get());
        self.words[word] |= bit;
        self.free += 1;
    }

    /// Takes `1 << order` consecutive frames, aligned to their number.
    pub fn take_aligned(&mut self, order: u32) -> Option<Mfn> {
        let count = 1u64.checked_shl(order)?;
        if self.free < count {
            return None;
        }
        let hint = (order as usize).min(ORDERS - 1);
        let first = self.find_from(self.hints[hint], count).or_else(|| self.find_from(0, count))?;
        self.hints[hint] = first;
        for frame in first..first + count {
            self.words[(frame / WORD) as usize] &= !(1 << (frame % WORD));
        }
        self.free -= count;
        Some(Mfn::new(first))
    }

    /// Takes one frame; `false` if it is not in the set.
    pub fn take_this(&mut self, mfn: Mfn) -> bool {
        let Ok(index) = usize::try_from(mfn.get() / WORD) else { return false };
        let bit = 1 << (mfn.get() % WORD);
        let Some(word) = self.words.get_mut(index).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        self.free -= 1;
        true
    }

    /// The first aligned run of `count` frames, a power of two, in or behind the word of `from`.
    fn find_from(&self, from: u64, count: u64) -> Option<u64> {
        if count >= WORD {
            let run = (count / WORD) as usize;
            #[expect(clippy::cast_possible_truncation, reason = "an index into a list in memory")]
            let skipped = (from / count) as usize;
            let mut runs = self.words.chunks_exact(run).enumerate().skip(skipped);
            let (index, _) = runs.find(|(_, words)| words.iter().all(|&word| word == u64::MAX))?;
            return Some(index as u64 * count);
        }
        let words = self.words.iter().enumerate().skip((from / WORD) as usize);
        words.filter(|(_, word)| **word != 0).find_map(|(index, &word)| {
            let bit = aligned_runs(word, count).trailing_zeros();
            (bit < u64::BITS).then(|| index as u64 * WORD + u64::from(bit))
        })
    }
}

/// The bits of a word at which `count` set bits begin, aligned to their number, a power of two
/// below 64.
fn aligned_runs(word: u64, count: u64) -> u64 {
    let (mut runs, mut length) = (word, 1);
    while length < count {
        runs &= runs >> length;
        length *= 2;
    }
    // One bit in `count`, from the lowest on.
    runs & (u64::MAX / ((1 << count) - 1))
}
