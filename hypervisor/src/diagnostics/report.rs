//! Reports of refusals in the log: the operation, the cause, and the mappings in the way.
#![expect(unsafe_code, reason = "hooks of the floors below, which the linker connects")]

use crate::arch::percpu;
use crate::console::log::write_record;
use crate::diagnostics::callers::Callers;
use crate::domain::alias_search::Listing;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::domain::{self, Domain};
use crate::memory::{self, guest, m2p};
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::mmu::MemoryType;
use pinfold_abi::record::{
    Alias, Cache, Hex, Hex16, Mapping, MappingState, MarkText, Maybe, Refused, SearchEnd, Text, Who,
};
use pinfold_validator::{Error, FrameMapping, MappingFilter, Refusal};

/// Numbers of reports, over all domains.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Reports an operation that failed, if it was refused.
pub fn stopped(vcpu: &Vcpu, stop: &Error) {
    if let Error::Refused(refusal) = stop {
        refused(vcpu, refusal);
    }
}

/// [`refused`] for the floor below.
#[unsafe(no_mangle)]
fn pinfold_report_refusal(vcpu: &Vcpu, refusal: &Refusal) {
    refused(vcpu, refusal);
}

/// Reports a refusal: the evidence as fields, the cause in words, and for an alias each mapping in the
/// way: the writable ones of a frame that is to be a table, all of one that is to have another memory
/// type. The mappings follow before the guest resumes ([`super::listing`]).
pub fn refused(vcpu: &Vcpu, refusal: &Refusal) {
    vcpu.work.charge(cost::RECORD);
    if let Some((id, Some(which))) = begin(vcpu, refusal) {
        let (who, domain) = (vcpu.who(), &vcpu.domain);
        let listing = Listing::begin(who, domain, Some(id), refusal.frame, which, 0);
        vcpu.slot().reports.add(listing);
    }
}

/// Reports an alias, and begins a search for at least `most` mappings, for an upcall: also if the log
/// limit suppresses the report. Returns the search and the report's number, if it was written.
pub fn begin_refused(vcpu: &Vcpu, refusal: &Refusal, most: u32) -> (Listing, Option<u64>) {
    vcpu.work.charge(cost::RECORD);
    let id = begin(vcpu, refusal).map(|(id, _)| id);
    let (who, domain) = (vcpu.who(), &vcpu.domain);
    (Listing::begin(who, domain, id, refusal.frame, MappingFilter::Writable, most), id)
}

/// Writes the head of a report. Returns its number, and which mappings are in the way.
fn begin(vcpu: &Vcpu, refusal: &Refusal) -> Option<(u64, Option<MappingFilter>)> {
    let domain = &vcpu.domain;
    if refusal.is_alias() {
        domain.stats.aliases.bump();
    }
    if !domain.log_limit.allows() {
        return None;
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let (who, rip) = (vcpu.who(), vcpu.file.regs.rip);
    let pfn = Maybe(m2p::get(refusal.frame));
    let (evidence, rip, why) = (refusal.evidence(), Hex(rip), Text::Shown(refusal));
    let (which, written) = if refusal.is_alias() {
        let callers = Callers::of(&vcpu.file.regs);
        let callers = callers.addresses();
        let written = write_record(who, &Alias { id, evidence, pfn, rip, callers, why });
        (Some(MappingFilter::Writable), written)
    } else if refusal.is_cache_alias() {
        let callers = Callers::of(&vcpu.file.regs);
        let (rip, callers) = (Maybe(Some(rip)), callers.addresses());
        let record = Cache { id, evidence, pfn, rip, callers, policy: None, why };
        (Some(MappingFilter::All), write_record(who, &record))
    } else {
        (None, write_record(who, &Refused { id, evidence, pfn, rip, why }))
    };
    // Mappings without a head would be useless.
    written.then_some((id, which))
}

/// Reports a mapping with another memory type than the frame's others that is made nevertheless (cache
/// policy `report`). The validator calls this in the middle of the operation.
#[unsafe(no_mangle)]
fn pinfold_report_memtype_conflict(would_be_refused: &Refusal) {
    let refusal = would_be_refused;
    let Some(domain) = domain::find(refusal.dom) else { return };
    if !domain.log_limit.allows() {
        return;
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    // The caller owns the vCPU's state. Its slot says that it runs here, and the entry code where its
    // guest was interrupted.
    let here = percpu::cpu_number();
    let running = domain.slots.iter().find(|slot| slot.is_on(here));
    let rip = Maybe(running.map(|_| Hex(percpu::interrupted_rip())));
    let who = running.map_or(domain.who(), |slot| Who::Vcpu(domain.id.get(), slot.id));
    let record = Cache {
        id,
        evidence: refusal.evidence(),
        pfn: Maybe(m2p::get(refusal.frame)),
        rip,
        callers: None,
        policy: Some("report"),
        why: Text::Shown(refusal),
    };
    if !write_record(who, &record) {
        return;
    }
    let listing = Listing::begin(who, &domain, Some(id), refusal.frame, MappingFilter::All, 0);
    match running {
        Some(slot) => slot.reports.add(listing),
        // No vCPU would continue the search.
        None => {
            write_record(who, &SearchEnd::not_begun(id));
        }
    }
}

/// Logs a mapping.
pub fn write_mapping(who: Who, domain: &Domain, id: u64, mapping: &FrameMapping) {
    let FrameMapping { table, index, entry, .. } = *mapping;
    let memory_type = MemoryType::of(entry.flags());
    let mut record = Mapping {
        id,
        va: Maybe(mapping.address),
        table,
        index: index.get() as u16,
        entry: Hex16(entry.get()),
        memory_type: (memory_type != MemoryType::WriteBack).then(|| memory_type.name()),
        region: Maybe(None),
        state: MappingState::Live,
        borrower: None,
    };
    let owner = memory::validator().owner(table);
    if let Some(borrower) = owner.filter(|owner| *owner != domain.id) {
        record.borrower = Some(Who::Domain(borrower.get()));
        write_record(who, &record);
        return;
    }
    let region = mapping.address.and_then(|va| domain.regions.lock().find(va.get()));
    if let Some(region) = &region {
        record.region = Maybe(Some(Text::Bytes(&region.name)));
        record.state = mapping
            .address
            .map_or(MappingState::Unknown, |va| region.life(va.get(), guest::read_byte));
    }
    write_record(who, &record);
}

/// Logs a domain's own line.
pub fn mark(domain: &Domain, text: &[u8]) {
    if domain.log_limit.allows() {
        write_record(domain.who(), &MarkText { text: Text::Bytes(text) });
    }
}
