//! Where tables are: so that a search need not look at every frame of the machine.
//!
//! One word for a stretch of frames: whether it is known that none of them is a table, and how often
//! one of them began to become one. A search that looked through a stretch and found none marks it.
//!
//! No table is overlooked. A search reads the word, looks, and marks the stretch only if the word is
//! still the same. If a frame was counted before it read, it has acquired what that release
//! published, the frame's type among it, and finds the table; if after, the word is another one and
//! stays. The count goes up only, so it isn't the same again, however long a search was suspended.

use crate::frame::Mfn;
use crate::sync::{AtomicU32, Ordering};

/// Counts that there are.
const COUNTS: usize = 1024;
/// Frames in a stretch, at least.
const SHORTEST: usize = 128;

/// Of a word: none of the stretch is a table.
const EMPTY: u32 = 1;
/// Of a word: one frame more that began to become a table.
const ONE: u32 = 2;

/// The words.
#[derive(Debug)]
pub(crate) struct Census {
    counts: [AtomicU32; COUNTS],
    /// Frames in a stretch, as a power of two.
    shift: u32,
}

impl Census {
    /// A census of so many frames, none of them a table.
    pub(crate) fn new(frames: usize) -> Census {
        let stretch = frames.div_ceil(COUNTS).max(SHORTEST).next_power_of_two();
        Census {
            counts: core::array::from_fn(|_| AtomicU32::new(EMPTY)),
            shift: stretch.trailing_zeros(),
        }
    }

    /// Frames in a stretch.
    pub(crate) fn stretch(&self) -> usize {
        1 << self.shift
    }

    /// Notes that a frame is becoming a table: after its type says so.
    #[inline]
    pub(crate) fn note(&self, mfn: Mfn) {
        // Beyond the last stretch there is no frame.
        if let Some(count) = self.counts.get((mfn.get() >> self.shift) as usize) {
            // Release: see above. The one that fails finds the word as another left it, and adds to
            // that. It wraps after 2^31 tables, and then a search would have to be that old.
            let noted = |word: u32| Some((word & !EMPTY).wrapping_add(ONE));
            let _ = count.fetch_update(Ordering::Release, Ordering::Relaxed, noted);
        }
    }

    /// The next stretch from one on that has a table, and its word; of so many that are looked at, at
    /// most. The stretch behind these, and `None`, if none of them has.
    pub(crate) fn next_used(&self, from: usize, most: usize) -> (usize, Option<u32>) {
        let counts = self.counts.get(from..).unwrap_or(&[]);
        let counts = &counts[..counts.len().min(most)];
        for (offset, count) in counts.iter().enumerate() {
            // Acquire: see above.
            let word = count.load(Ordering::Acquire);
            if word & EMPTY == 0 {
                return (from + offset, Some(word));
            }
        }
        (from + counts.len(), None)
    }

    /// A search found no table in a stretch whose word was `seen` before it looked.
    pub(crate) fn found_none(&self, stretch: usize, seen: u32) {
        if let Some(count) = self.counts.get(stretch) {
            // Relaxed: nothing hangs on it. If it fails, a frame was noted meanwhile.
            let _ =
                count.compare_exchange(seen, seen | EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
