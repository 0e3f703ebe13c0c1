//! The mappings of a report: searched for in steps, and logged as they are found.
//!
//! A search reads all page tables of a domain, which takes longer than a refused call may. So the
//! call returns at once, with the head of its report in the log; the search is done before the guest
//! resumes ([`continue_listings`]), a bounded part at a time, with other vCPUs' time slices in
//! between.

use super::report;
use crate::arch::latency::{self, Activity};
use crate::arch::{apic, ipi};
use crate::console::log::write_record;
use crate::domain::Domain;
use crate::domain::alias_search::{Listing, MAPPINGS};
use crate::domain::vcpu::Vcpu;
use crate::domain::work::ENTRIES;
use crate::memory::validator;
use crate::time::clock;
use core::ops::ControlFlow;
use pinfold_abi::record::{SearchEnd, YesNo};
use pinfold_validator::{Budget, FrameMapping};

/// Continues a search for a bounded number of entries; `each` gets every mapping found. At the end,
/// returns whether there may be more mappings.
pub fn step(
    listing: &mut Listing,
    domain: &Domain,
    each: &mut dyn FnMut(&FrameMapping),
) -> Option<bool> {
    let Listing { who, id, search, listed, begun_ns } = listing;
    let budget = &mut Budget::new(ENTRIES);
    let end = validator().search(search, budget, &mut |mapping| {
        if let Some(id) = id.filter(|_| *listed < MAPPINGS && domain.log_limit.allows()) {
            report::write_mapping(*who, domain, id, &mapping);
            *listed += 1;
            // Writing records takes time, and others may wait for a flush.
            ipi::service_ipis();
        }
        each(&mapping);
        ControlFlow::Continue(())
    })?;
    if let Some(id) = *id {
        let search_us = (clock::now_ns() - *begun_ns) / 1000;
        let cut_short = end.cut_short || end.found > *listed;
        let (found, end, cut_short) = (*listed, YesNo(true), YesNo(cut_short));
        write_record(*who, &SearchEnd { id, end, found, cut_short, search_us });
    }
    Some(end.cut_short)
}

/// Continues the searches of the loaded vCPU. False if they were preempted.
pub fn continue_listings(vcpu: &Vcpu) -> bool {
    let pending = &vcpu.slot().reports;
    while pending.is_any() {
        let Some(mut listing) = pending.take() else { break };
        latency::begin_span(Activity::REPORT);
        while step(&mut listing, &vcpu.domain, &mut |_| {}).is_none() {
            ipi::service_ipis();
            if apic::timer_is_pending() || vcpu.domain.is_ending() {
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
