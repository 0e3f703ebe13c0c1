//! Tables that lost their last reference when the budget was used up.
//!
//! Dropping a reference always succeeds, for whoever drops it has nothing to ask again with. What
//! is left of the work waits here, and the domain's next operation does it first: the domain pays
//! for its own tables, and sees them gone before anything else of its happens.
//!
//! Only a list of hints: what is true of a table stands in its frame's word, and a hint that was
//! lost or is out of date does no harm. If the list is full, the table stays partial until someone
//! wants its frame, or the domain dies.

use crate::addr::Mfn;
use crate::ids::DomId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A vCPU leaves one table of each level at most before it comes back and settles them.
const SLOTS: usize = 192;

const MFN_BITS: u32 = 48;

/// Counts that there are: domains whose numbers end alike share one.
const COUNTS: usize = 256;

/// The list. A slot is 0, or a domain above bit 48 and a frame plus one below.
#[derive(Debug)]
pub(crate) struct DeferredDevalidations {
    /// Slots in use, by domain: so that what one leaves costs the others nothing.
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

    /// Whether there are none of the domain's.
    #[inline(always)]
    pub(crate) fn is_empty(&self, dom: DomId) -> bool {
        self.count(dom).load(Ordering::Relaxed) == 0
    }

    /// Notes a table. Relaxed throughout: the frame's word orders what matters.
    #[cold]
    pub(crate) fn add(&self, dom: DomId, mfn: Mfn) {
        let hint = u64::from(dom.get()) << MFN_BITS | (mfn.get() + 1);
        // Counted first, so that the count never goes below zero.
        self.count(dom).fetch_add(1, Ordering::Relaxed);
        for slot in &self.slots {
            if slot.compare_exchange(0, hint, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        self.count(dom).fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a table of the domain's off the list.
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
