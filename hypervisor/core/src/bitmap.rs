//! Which frames are free: one bit a frame, searched from where the last search ended.

use pinfold_validator::Mfn;

/// The set of free frames.
#[derive(Debug)]
pub struct FrameBitmap {
    words: &'static mut [u64],
    /// Word where the next search begins.
    hint: usize,
    free: u64,
}

impl FrameBitmap {
    /// An empty set over `words`, which must be zeros.
    pub fn new(words: &'static mut [u64]) -> FrameBitmap {
        FrameBitmap { words, hint: 0, free: 0 }
    }

    /// Frames in the set.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Adds a frame.
    ///
    /// # Panics
    /// If it is in the set already: a double free is a bug of ours.
    pub fn add(&mut self, mfn: Mfn) {
        let (word, bit) = (mfn.get() as usize / 64, 1 << (mfn.get() % 64));
        assert!(self.words[word] & bit == 0, "frame {:#x} freed twice", mfn.get());
        self.words[word] |= bit;
        self.free += 1;
    }

    /// Takes some frame.
    pub fn take(&mut self) -> Option<Mfn> {
        let count = self.words.len();
        let word = (0..count).map(|i| (self.hint + i) % count).find(|&w| self.words[w] != 0)?;
        self.hint = word;
        let bit = self.words[word].trailing_zeros();
        self.words[word] &= !(1 << bit);
        self.free -= 1;
        Some(Mfn::new(word as u64 * 64 + u64::from(bit)))
    }

    /// Takes `1 << order` frames that follow each other, aligned to their number.
    pub fn take_aligned(&mut self, order: u32) -> Option<Mfn> {
        if order == 0 {
            return self.take();
        }
        let count = 1u64.checked_shl(order)?;
        let frames = self.words.len() as u64 * 64;
        let mut start = 0;
        while start + count <= frames {
            if self.contains_run(start, count) {
                for frame in start..start + count {
                    self.words[frame as usize / 64] &= !(1 << (frame % 64));
                }
                self.free -= count;
                return Some(Mfn::new(start));
            }
            start += count;
        }
        None
    }

    fn contains_run(&self, start: u64, count: u64) -> bool {
        if count < 64 {
            let mask = (1u64 << count) - 1;
            return self.words[start as usize / 64] >> (start % 64) & mask == mask;
        }
        self.words[start as usize / 64..(start + count) as usize / 64]
            .iter()
            .all(|&w| w == u64::MAX)
    }
}
