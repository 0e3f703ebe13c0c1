//! Refusals, told in the log: what was asked, why not, and which mappings are in the way.

use crate::arch::percpu;
use crate::console::log::{record, try_record};
use crate::diagnostics::callers::Callers;
use crate::domain::alias_search::Listing;
use crate::domain::regions::Life;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::domain::{self, Domain};
use crate::memory::{self, guest, m2p};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::mmu::MemoryType;
use pinfold_abi::record::{Quoted, Who};
use pinfold_validator::{Error, FrameMapping, MappingFilter, Pfn, Refusal, Vaddr};

/// Numbers of reports, over all domains.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Tells of an operation that stopped: only a refusal is news.
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

/// Tells of a refusal: the evidence as fields, the reason in words, and for an alias each mapping
/// that is in the way: the writable ones of a frame that would be a table, all of one that would be
/// cached otherwise. Those follow before the guest goes on ([`super::listing`]).
pub fn refused(vcpu: &Vcpu, refusal: &Refusal) {
    vcpu.work.charge(cost::RECORD);
    if let Some((id, Some(which))) = begin(vcpu, refusal) {
        let (who, domain) = (vcpu.who(), &vcpu.domain);
        let listing = Listing::begin(who, domain, Some(id), refusal.frame, which, 0);
        vcpu.slot().reports.add(listing);
    }
}

/// Tells of an alias, and begins to search so many of the mappings, even if nothing may be logged:
/// somebody else is to be told of them. Also the report's number, if it was written.
pub fn begin_refused(vcpu: &Vcpu, refusal: &Refusal, most: u32) -> (Listing, Option<u64>) {
    vcpu.work.charge(cost::RECORD);
    let id = begin(vcpu, refusal).map(|(id, _)| id);
    let (who, domain) = (vcpu.who(), &vcpu.domain);
    (Listing::begin(who, domain, id, refusal.frame, MappingFilter::Writable, most), id)
}

/// Writes the head of a report: its number, and which mappings are in the way.
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
    let pfn = Shown(m2p::get(refusal.frame).map(Pfn::get));
    let fields = refusal.fields();
    let callers = || Callers::of(&vcpu.file.regs);
    let (which, written) = if refusal.is_alias() {
        let callers = callers();
        let written = try_record!(
            who,
            ALIAS,
            "id={id} {fields} pfn={pfn} rip={rip:#x}{callers} why=\"{refusal}\""
        );
        (Some(MappingFilter::Writable), written)
    } else if refusal.is_cache_alias() {
        let callers = callers();
        let written = try_record!(
            who,
            CACHE,
            "id={id} {fields} pfn={pfn} rip={rip:#x}{callers} why=\"{refusal}\""
        );
        (Some(MappingFilter::All), written)
    } else {
        let written =
            try_record!(who, REFUSED, "id={id} {fields} pfn={pfn} rip={rip:#x} why=\"{refusal}\"");
        (None, written)
    };
    // A report without its head is of no use.
    written.then_some((id, which))
}

/// Tells of a mapping that is cached otherwise than the frame's others, and was made all the same:
/// the validator is in the middle of that.
#[unsafe(no_mangle)]
fn pinfold_report_memtype_conflict(would_be_refused: &Refusal) {
    let refusal = would_be_refused;
    let Some(domain) = domain::find(refusal.dom) else { return };
    if !domain.log_limit.allows() {
        return;
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    // The vCPU is the caller's: what can be seen of it from here is that it runs, and where it
    // left off.
    let here = percpu::cpu_number();
    let running = domain.slots.iter().find(|slot| slot.is_on(here));
    let rip = Shown(running.map(|_| percpu::interrupted_rip()));
    let who = running.map_or(domain.who(), |slot| Who::Vcpu(domain.id.get(), slot.id));
    let pfn = Shown(m2p::get(refusal.frame).map(Pfn::get));
    let fields = refusal.fields();
    let why = refusal;
    if !try_record!(who, CACHE, "id={id} {fields} pfn={pfn} rip={rip} policy=report why=\"{why}\"")
    {
        return;
    }
    let listing = Listing::begin(who, &domain, Some(id), refusal.frame, MappingFilter::All, 0);
    match running {
        Some(slot) => slot.reports.add(listing),
        // Nobody's turn to go on with it.
        None => record!(who, MAPPING, "id={id} end=yes found=0 cut_short=yes search_us=0"),
    }
}

/// Writes what is known of a mapping.
pub fn write_mapping(who: Who, domain: &Domain, id: u64, mapping: &FrameMapping) {
    let va = Shown(mapping.address.map(Vaddr::get));
    let FrameMapping { table, index, entry, .. } = mapping;
    let memory = Memory(MemoryType::of(entry.flags()));
    let owner = memory::validator().owner(*table);
    if let Some(borrower) = owner.filter(|owner| *owner != domain.id) {
        record!(
            who,
            MAPPING,
            "id={id} va={va} table={table} index={index} entry={entry}{memory} region=none state=live borrower=d{borrower}"
        );
        return;
    }
    let region = mapping.address.and_then(|va| domain.regions.lock().find(va.get()));
    match region {
        Some(region) => record!(
            who,
            MAPPING,
            "id={id} va={va} table={table} index={index} entry={entry}{memory} region={} state={}",
            Quoted(&region.name),
            mapping
                .address
                .map_or(Life::Unknown, |va| region.life(va.get(), guest::read_byte))
                .name()
        ),
        None => record!(
            who,
            MAPPING,
            "id={id} va={va} table={table} index={index} entry={entry}{memory} region=none state=live"
        ),
    }
}

/// The memory type of a mapping, if it isn't the usual one.
struct Memory(MemoryType);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MemoryType::WriteBack => Ok(()),
            other => write!(f, " type={}", other.name()),
        }
    }
}

/// A number that may be missing.
struct Shown(Option<u64>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number:#x}"),
            None => f.write_str("none"),
        }
    }
}

/// A domain's line of its own.
pub fn mark(domain: &Domain, text: &[u8]) {
    if domain.log_limit.allows() {
        record!(domain.who(), MARK, "text={}", Quoted(text));
    }
}
