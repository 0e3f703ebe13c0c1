//! Tables whose last reference was dropped when the budget was used up.
//!
//! Dropping a reference always succeeds, since there is no call that could be made again. What is left
//! of the work is noted here, and the domain's next operation does it first: a domain pays for its own
//! tables, and finds them gone before it does anything else.
//!
//! The list holds hints only. The state of a table is in its frame's type word, so a hint that is lost
//! or out of date does no harm. If the list is full, a table stays partial until an operation wants its
//! frame, or the domain ends.

use crate::addr::Mfn;
use crate::ids::DomId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Length of the list. A vCPU leaves at most one table of each level before its next operation, which
/// takes them apart.
const SLOTS: usize = 192;

const MFN_BITS: u32 = 48;

/// Number of counters. Domains share one if the low bits of their numbers are equal.
const COUNTS: usize = 256;

/// The list. A slot is 0, or a domain above bit 48 and a frame plus one below.
#[derive(Debug)]
pub(crate) struct DeferredDevalidations {
    /// Slots in use by each domain, so that a domain without any need not search the list.
    counts: [AtomicU32; COUNTS],
    slots: [AtomicU64; SLOTS],
}

impl DeferredDevalidations {
    pub(crate) fn new() -> DeferredDevalidations {
        DeferredDevalidations {
            counts: core::array::from_fn(|_| AtomicU32::new(0)),
            slots: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    #[inline(always)]
    fn count(&self, dom: DomId) -> &AtomicU32 {
        &self.counts[usize::from(dom.get()) % COUNTS]
    }

    /// Whether the domain has none.
    #[inline(always)]
    pub(crate) fn is_empty(&self, dom: DomId) -> bool {
        self.count(dom).load(Ordering::Relaxed) == 0
    }

    /// Notes a table. Relaxed throughout: the frame's type word orders what matters.
    #[cold]
    pub(crate) fn add(&self, dom: DomId, mfn: Mfn) {
        let hint = u64::from(dom.get()) << MFN_BITS | (mfn.get() + 1);
        // Counted first, so that the count never goes below 0.
        self.count(dom).fetch_add(1, Ordering::Relaxed);
        for slot in &self.slots {
            if slot.compare_exchange(0, hint, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        self.count(dom).fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes one of the domain's tables from the list.
    pub(crate) fn take(&self, dom: DomId) -> Option<Mfn> {
        for slot in &self.slots {
            let hint = slot.load(Ordering::Relaxed);
            if hint != 0
                && hint >> MFN_BITS == u64::from(dom.get())
                && slot.compare_exchange(hint, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                self.count(dom).fetch_sub(1, Ordering::Relaxed);
                return Some(Mfn::new((hint & ((1 << MFN_BITS) - 1)) - 1));
            }
        }
        None
    }
}
