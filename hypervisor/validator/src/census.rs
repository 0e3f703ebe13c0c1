//! Where tables are: so that a search need not look at every frame of the machine.
//!
//! One count for a stretch of frames: how often a frame of it began to become a table; 0 says that
//! none of them is one. A search that looked through a stretch and found none sets it to 0 again.
//!
//! No table is overlooked. A search reads the count, looks, and sets it to 0 only if it is still
//! the same. If a frame was counted before it read, it has acquired what that release published,
//! the frame's type among it, and finds the table; if after, the count is another one and stays.

use crate::frame::Mfn;
use crate::sync::{AtomicU32, Ordering};

/// Counts that there are.
const COUNTS: usize = 1024;
/// Frames in a stretch, at least.
const SHORTEST: usize = 128;

/// The counts.
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
            counts: core::array::from_fn(|_| AtomicU32::new(0)),
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
            // Release: see above. Twice, if the count came round to 0.
            while count.fetch_add(1, Ordering::Release) == u32::MAX {}
        }
    }

    /// The count of a stretch: 0 if it has no table.
    pub(crate) fn count(&self, stretch: usize) -> u32 {
        self.counts.get(stretch).map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// A search found no table in a stretch whose count was `seen` before it looked.
    pub(crate) fn found_none(&self, stretch: usize, seen: u32) {
        if let Some(count) = self.counts.get(stretch) {
            // Relaxed: nothing hangs on it. If it fails, a frame was noted meanwhile.
            let _ = count.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
