//! The mappings that a report lists: searched for in steps, and written as they are found.
//!
//! A search looks at all tables of a domain, many times over; that is more than a refused call may
//! take at once. A refusal is answered at once, with the head of its report in the log; the rest is
//! the vCPU's to do before its guest goes on ([`go_on`]), a bounded part at a time, with turns of
//! others in between.

use super::report;
use crate::arch::latency::{self, Activity};
use crate::arch::{apic, ipi, percpu};
use crate::console::log::record;
use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::ENTRIES;
use crate::memory::validator;
use crate::sync::Mutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::Who;
use pinfold_validator::{Budget, FrameMapping, MappingFilter, Mfn, Search, SearchLimits};

/// Mappings that a report lists.
const MAPPINGS: u32 = 64;
/// Reports of one vCPU whose mappings are still to be found: one of a call that was refused, one of
/// a mapping that was made all the same. What comes while there is no room is listed without.
const PENDING: usize = 4;

/// A search for the mappings of a frame, told of in the log under the number of a report if there
/// is one.
#[derive(Clone, Debug)]
pub struct Listing {
    who: Who,
    id: Option<u64>,
    search: Search,
    listed: u32,
    begun_ns: u64,
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

    /// Goes on for a bounded number of entries; `hear` is told of each mapping. At the end, whether
    /// there may be more mappings.
    pub fn step(&mut self, domain: &Domain, hear: &mut dyn FnMut(&FrameMapping)) -> Option<bool> {
        let Listing { who, id, search, listed, begun_ns } = self;
        let budget = &mut Budget::new(ENTRIES);
        let end = validator().search(search, budget, &mut |mapping| {
            if let Some(id) = id.filter(|_| *listed < MAPPINGS && domain.log_limit.allows()) {
                report::write_mapping(*who, domain, id, &mapping);
                *listed += 1;
                // The port is slow, and others may wait for a flush.
                ipi::service_ipis();
            }
            hear(&mapping);
            ControlFlow::Continue(())
        })?;
        if let Some(id) = *id {
            let us = (clock::now_ns() - *begun_ns) / 1000;
            let cut = if end.cut_short || end.found > *listed { "yes" } else { "no" };
            record!(*who, MAPPING, "id={id} end=yes found={listed} cut_short={cut} search_us={us}");
        }
        Some(end.cut_short)
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
                record!(who, MAPPING, "id={id} end=yes found=0 cut_short=yes search_us=0");
            }
        }
        self.any.store(true, Ordering::Relaxed);
        // The way back to the guest leads past `go_on`.
        percpu::set_need_resched(percpu::cpu_number());
    }

    /// Whether there are some.
    pub fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Listing> {
        let mut list = self.list.lock();
        if list.is_empty() {
            self.any.store(false, Ordering::Relaxed);
        }
        list.pop_at(0)
    }

    fn put_back(&self, listing: Listing) {
        // There is room: nobody else adds any.
        let _ = self.list.lock().try_insert(0, listing);
    }
}

/// Goes on with the listings of the loaded vCPU. False if its time was up before the end.
pub fn go_on(vcpu: &Vcpu) -> bool {
    let pending = &vcpu.slot().reports;
    while pending.is_any() {
        let Some(mut listing) = pending.take() else { break };
        latency::begin(Activity::REPORT);
        while listing.step(&vcpu.domain, &mut |_| {}).is_none() {
            ipi::service_ipis();
            if apic::timer_is_pending() || vcpu.domain.ending.is_completed() {
                pending.put_back(listing);
                return false;
            }
        }
        if apic::timer_is_pending() {
            return !pending.is_any();
        }
    }
    true
}
