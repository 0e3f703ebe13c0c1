//! The flush clock: which CPUs may still remember a frame as something that it is no more.
//!
//! The clock ticks at each full flush of a CPU. A frame whose last mapping went away is stamped
//! with the clock; a CPU that has drawn a later tick *before* flushing, and told so *after*, has
//! forgotten it. So at a change of type only the CPUs are flushed that ran the owner since their
//! last flush and have not flushed since the stamp.
//!
//! Why it is right: the mapping leaves the tables by a full barrier before the stamp is read. A
//! tick that is greater than the stamp was drawn after the stamp was read, so the flush that
//! follows it finds the mapping gone, and page walks after it don't bring it back.
//!
//! Stamps hold the low 30 bits of the clock. An old stamp whose bits came round again is taken for
//! a younger one (it is read as the latest moment that ends in these bits), which can only cost a
//! flush too many: wraparound needs no care.

use crate::frame_table::STAMP_BITS;
use crate::ids::CpuSet;
use crate::sync::{AtomicU64, Ordering};

/// A flush that has begun: the tick that it drew. Goes to
/// [`Validator::end_flush`](crate::Validator::end_flush) when it is done; a flush that isn't
/// told is a flush that the clock doesn't know of, which costs flushes, but is safe.
#[derive(Debug)]
#[must_use = "an untold flush will be done again"]
pub struct FlushTicket(u64);

/// The clock and when each CPU flushed last.
#[derive(Debug)]
pub(crate) struct FlushClock {
    now: AtomicU64,
    flushed: [AtomicU64; CpuSet::CAPACITY],
}

impl FlushClock {
    pub(crate) fn new() -> FlushClock {
        FlushClock::starting_at(1)
    }

    /// A clock that shows some time already; no CPU has flushed.
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

    /// Notes that the flush is done. An older flush that ends later changes nothing.
    pub(crate) fn end(&self, cpu: usize, ticket: FlushTicket) {
        if let Some(flushed) = self.flushed.get(cpu) {
            // Release pairs with the acquire in `behind`: who sees the tick, the flush was done.
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
