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
/// Reports of one vCPU whose searches are unfinished. A report that finds no room lists no mappings.
const PENDING: usize = 4;

/// A search for the mappings of a frame, which are logged as part of a report, if there is one.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The subject of its records.
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
    /// Begins a search for at least `most` mappings.
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

/// A vCPU's unfinished searches.
#[derive(Debug, Default)]
pub struct Pending {
    /// Whether there are any. Only the CPU that runs the vCPU uses it.
    any: AtomicBool,
    list: Mutex<ArrayVec<Listing, PENDING>>,
}

impl Pending {
    /// Queues a search that is to be finished before the guest resumes. The vCPU runs on this CPU.
    pub fn add(&self, listing: Listing) {
        let mut list = self.list.lock();
        if let Err(full) = list.try_push(listing) {
            let Listing { who, id, .. } = full.element();
            if let Some(id) = id {
                write_record(who, &SearchEnd::not_begun(id));
            }
        }
        self.any.store(true, Ordering::Relaxed);
        // Makes the return to the guest go through the slow path, which continues the search.
        percpu::set_need_resched();
    }

    /// Whether there are any.
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
        // There is room: only this CPU adds any.
        let _ = self.list.lock().try_insert(0, listing);
    }
}

/// The search of a preempted `find_aliases`, which continues when the call is restarted.
#[derive(Debug)]
pub struct FindProgress {
    /// The frame.
    pub frame: Mfn,
    /// The frame's index in the list.
    pub index: u32,
    /// The search.
    pub search: Search,
    /// Mappings written for this frame and those before it.
    pub written: u32,
    /// Flags so far (`FIND_*`).
    pub flags: u32,
}
