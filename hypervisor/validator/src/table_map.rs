//! Where tables are, so that a search need not look at every frame of the machine.
//!
//! One word for each chunk of frames: how often one of them began to become a table, and whether a
//! search has found that none of them is one.
//!
//! No table is missed. A search reads the word, looks at the frames, and marks the chunk as empty only
//! if the word is still the same. A frame that was counted before the search read the word is found:
//! the read acquires what the count released, the frame's type included. A frame that is counted later
//! changes the word, and the mark fails. The count only goes up, so an old word does not come back.

use crate::addr::Mfn;
use crate::sync::{AtomicU32, Ordering};

/// Number of chunks.
const COUNTS: usize = 1024;
/// Least number of frames in a chunk.
const MIN_CHUNK: usize = 128;

/// Bit of a word: no frame of the chunk is a table.
const EMPTY: u32 = 1;
/// Unit of a word's count of frames that began to become a table.
const ONE: u32 = 2;

/// One word for each chunk.
#[derive(Debug)]
pub(crate) struct TableMap {
    counts: [AtomicU32; COUNTS],
    /// log2 of the number of frames in a chunk.
    shift: u32,
}

impl TableMap {
    /// A map of `frames` frames, none of them a table.
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

    /// Notes that a frame becomes a table: after its type says so.
    #[inline]
    pub(crate) fn note_table(&self, mfn: Mfn) {
        // There is no frame beyond the last chunk.
        if let Some(count) = self.counts.get((mfn.get() >> self.shift) as usize) {
            // Release: see the module. The count wraps after 2^31 tables; only a search that has been
            // under way for as long could take the word for the old one.
            let noted = |word: u32| Some((word & !EMPTY).wrapping_add(ONE));
            let _ = count.fetch_update(Ordering::Release, Ordering::Relaxed, noted);
        }
    }

    /// The next chunk from `from` on that may have a table, and its word. Looks at `most` chunks at
    /// most; if none of them has a table, returns the chunk after these, and `None`.
    pub(crate) fn next_used(&self, from: usize, most: usize) -> (usize, Option<u32>) {
        let counts = self.counts.get(from..).unwrap_or(&[]);
        let counts = &counts[..counts.len().min(most)];
        for (offset, count) in counts.iter().enumerate() {
            // Acquire: see the module.
            let word = count.load(Ordering::Acquire);
            if word & EMPTY == 0 {
                return (from + offset, Some(word));
            }
        }
        (from + counts.len(), None)
    }

    /// Notes that a search found no table in a chunk, whose word was `seen` before.
    pub(crate) fn mark_empty(&self, chunk: usize, seen: u32) {
        if let Some(count) = self.counts.get(chunk) {
            // Relaxed: no other data depends on it. It fails if a frame was noted meanwhile.
            let _ =
                count.compare_exchange(seen, seen | EMPTY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
