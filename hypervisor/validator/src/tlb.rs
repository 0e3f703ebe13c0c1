//! The flush clock: which CPUs may still have a frame cached as what it was.
//!
//! The clock ticks at each full flush of a CPU. A frame whose last mapping is removed is stamped with
//! the clock. A CPU that has drawn a later tick *before* a flush, and recorded it *after* the flush,
//! has no translation of the frame. So a change of type flushes only those CPUs that ran the owner
//! since their last flush and have not flushed since the stamp. Xen's `tlbflush_clock` is the same idea.
//!
//! Why that is right: the mapping is removed from the tables by a full barrier before the stamp is
//! read. A tick that is greater than the stamp was drawn after the stamp was read, so the flush that
//! follows it drops the translation, and page walks after it don't find the mapping.
//!
//! A stamp is the low 30 bits of the clock. It is read as the latest time that ends in these bits, so an
//! old stamp can be taken for a younger one. That can only cost an unneeded flush: wraparound is safe.

use crate::frame_table::STAMP_BITS;
use crate::ids::CpuSet;
use crate::sync::{AtomicU64, Ordering};

/// A flush that has begun: the tick that it drew, for
/// [`Validator::end_flush`](crate::Validator::end_flush) when it is done. A flush that is not recorded
/// is repeated when it is needed: that costs time, but is safe.
#[derive(Debug)]
#[must_use = "a flush that is not recorded will be done again"]
pub struct FlushTicket(u64);

/// The clock, and the time of each CPU's last flush.
#[derive(Debug)]
pub(crate) struct FlushClock {
    now: AtomicU64,
    flushed: [AtomicU64; CpuSet::CAPACITY],
}

impl FlushClock {
    pub(crate) fn new() -> FlushClock {
        FlushClock::starting_at(1)
    }

    /// A clock that starts at some time; no CPU has flushed.
    pub(crate) fn starting_at(now: u64) -> FlushClock {
        FlushClock {
            now: AtomicU64::new(now),
            flushed: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The time, for a stamp. `SeqCst`, as are the ticks: all CPUs agree whether a flush began
    /// before or after the stamp was read.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Draws the tick of a flush that is about to begin.
    pub(crate) fn begin(&self) -> FlushTicket {
        FlushTicket(self.now.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Records that a flush is done. An older flush that ends later changes nothing.
    pub(crate) fn end(&self, cpu: usize, ticket: FlushTicket) {
        if let Some(flushed) = self.flushed.get(cpu) {
            // Release pairs with the acquire in `behind`: a CPU that sees the tick sees the flush done.
            flushed.fetch_max(ticket.0, Ordering::AcqRel);
        }
    }

    /// Those of `cpus` that have not flushed since the stamp.
    pub(crate) fn behind(&self, stamp: u64, cpus: CpuSet) -> CpuSet {
        if cpus.is_empty() {
            return cpus;
        }
        let now = self.now();
        let age = now.wrapping_sub(stamp) & ((1 << STAMP_BITS) - 1);
        let stamped = now.saturating_sub(age);
        let mut behind = CpuSet::EMPTY;
        for cpu in cpus.iter() {
            if self.flushed[cpu].load(Ordering::Acquire) <= stamped {
                behind = behind.with(cpu);
            }
        }
        behind
    }
}
