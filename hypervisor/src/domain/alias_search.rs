//! Searches for mappings that a vCPU has begun and goes on with later.

use super::Domain;
use crate::arch::percpu;
use crate::console::log::write_record;
use crate::memory::validator;
use crate::sync::Mutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::{SearchEnd, Who};
use pinfold_validator::{MappingFilter, Mfn, Search, SearchLimits};

/// Mappings that a report lists.
pub const MAPPINGS: u32 = 64;
/// Reports of one vCPU whose mappings are still to be found: one of a call that was refused, one of
/// a mapping that was made all the same. What comes while there is no room is listed without.
const PENDING: usize = 4;

/// A search for the mappings of a frame, which are logged as part of a report, if there is one.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whom its records are about.
    pub who: Who,
    /// Number of the report, if it was written.
    pub id: Option<u64>,
    /// The search.
    pub search: Search,
    /// Mappings written so far.
    pub listed: u32,
    /// System time in ns when it began.
    pub begun_ns: u64,
}

impl Listing {
    /// Begins to search for so many mappings at least.
    pub fn begin(
        who: Who,
        domain: &Domain,
        id: Option<u64>,
        frame: Mfn,
        which: MappingFilter,
        most: u32,
    ) -> Listing {
        let bounds = SearchLimits { mappings: MAPPINGS.max(most), ..SearchLimits::default() };
        let search = validator().begin_search(frame, domain.id, which, bounds);
        Listing { who, id, search, listed: 0, begun_ns: clock::now_ns() }
    }
}

/// A vCPU's reports whose mappings are still to be found.
#[derive(Debug, Default)]
pub struct Pending {
    /// There are some. Only the processor that runs the vCPU sets it or looks at it.
    any: AtomicBool,
    list: Mutex<ArrayVec<Listing, PENDING>>,
}

impl Pending {
    /// Leaves a listing to be done before the guest goes on. The vCPU runs on this processor.
    pub fn add(&self, listing: Listing) {
        let mut list = self.list.lock();
        if let Err(full) = list.try_push(listing) {
            let Listing { who, id, .. } = full.element();
            if let Some(id) = id {
                write_record(who, &SearchEnd::not_begun(id));
            }
        }
        self.any.store(true, Ordering::Relaxed);
        // The way back to the guest leads past the listing.
        percpu::set_need_resched();
    }

    /// Whether there are some.
    pub fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Takes the oldest one.
    pub fn take(&self) -> Option<Listing> {
        let mut list = self.list.lock();
        if list.is_empty() {
            self.any.store(false, Ordering::Relaxed);
        }
        list.pop_at(0)
    }

    /// Puts back what [`Pending::take`] took.
    pub fn put_back(&self, listing: Listing) {
        // There is room: nobody else adds any.
        let _ = self.list.lock().try_insert(0, listing);
    }
}

/// The search of a suspended `find_aliases`, which goes on when the call is made again.
#[derive(Debug)]
pub struct FindProgress {
    /// The frame.
    pub frame: Mfn,
    /// The frame's place in the list.
    pub index: u32,
    /// The search.
    pub search: Search,
    /// Mappings written for this frame and those before it.
    pub written: u32,
    /// Flags so far (`FIND_*`).
    pub flags: u32,
}
