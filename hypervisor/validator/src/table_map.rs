//! Where tables are: so that a search need not look at every frame of the machine.
//!
//! One word for a chunk of frames: whether it is known that none of them is a table, and how often
//! one of them began to become one. A search that looked through a chunk and found none marks it.
//!
//! No table is overlooked. A search reads the word, looks, and marks the chunk only if the word is
//! still the same. If a frame was counted before it read, it has acquired what that release
//! published, the frame's type among it, and finds the table; if after, the word is another one and
//! stays. The count goes up only, so it isn't the same again, however long a search was suspended.

use crate::addr::Mfn;
use crate::sync::{AtomicU32, Ordering};

/// Counts that there are.
const COUNTS: usize = 1024;
/// Frames in a chunk, at least.
const MIN_CHUNK: usize = 128;

/// Of a word: none of the chunk is a table.
const EMPTY: u32 = 1;
/// Of a word: one frame more that began to become a table.
const ONE: u32 = 2;

/// The words.
#[derive(Debug)]
pub(crate) struct TableMap {
    counts: [AtomicU32; COUNTS],
    /// Frames in a chunk, as a power of two.
    shift: u32,
}

impl TableMap {
    /// A map of so many frames, none of them a table.
    pub(crate) fn new(frames: usize) -> TableMap {
        let chunk = frames.div_ceil(COUNTS).max(MIN_CHUNK).next_power_of_two();
        TableMap {
            counts: core::array::from_fn(|_| AtomicU32::new(EMPTY)),
            shift: chunk.trailing_zeros(),
        }
    }

    /// Frames in a chunk.
    pub(crate) fn chunk(&self) -> usize {
        1 << self.shift
    }

    /// Notes that a frame is becoming a table: after its type says so.
    #[inline]
    pub(crate) fn note_table(&self, mfn: Mfn) {
        // Beyond the last chunk there is no frame.
        if let Some(count) = self.counts.get((mfn.get() >> self.shift) as usize) {
            // Release: see above. The one that fails finds the word as another left it, and adds to
            // that. It wraps after 2^31 tables, and then a search would have to be that old.
            let noted = |word: u32| Some((word & !EMPTY).wrapping_add(ONE));
            let _ = count.fetch_update(Ordering::Release, Ordering::Relaxed, noted);
        }
    }

    /// The next chunk from one on that has a table, and its word; of so many that are looked at, at
    /// most. The chunk behind these, and `None`, if none of them has.
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

    /// A search found no table in a chunk whose word was `seen` before it looked.
    pub(crate) fn mark_empty(&self, chunk: usize, seen: u32) {
        if let Some(count) = self.counts.get(chunk) {
            // Relaxed: nothing hangs on it. If it fails, a frame was noted meanwhile.
            let _ =
                count.compare_exchange(seen, seen | EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
