//! Teardown: frees the memory of a domain that ended, and logs proof that nothing is left.
//!
//! The time it takes grows with the domain's memory, so it is done in steps, between two time slices
//! and on idle CPUs. A dying domain is on the list, or with the one CPU that does a step of its
//! teardown.

use super::summary;
use crate::arch::latency::{self, Activity};
use crate::console::log::write_record;
use crate::diagnostics::frame_dump::FrameDump;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::ENTRIES;
use crate::domain::{self, Domain, DomainRef, descriptors, timers};
use crate::event::ports;
use crate::grant::Listed;
use crate::memory::{frames, platform};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};
use pinfold_abi::record::Teardown;
use pinfold_core::teardown::{DomainTeardown, TeardownStep, TeardownSummary};

/// Drops a vCPU that isn't loaded and won't run again, and all references that it holds. What one
/// attempt leaves of its tables is devalidated with the domain's others.
pub fn drop_vcpu(mut vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    let slot = &domain.slots[usize::from(vcpu.id)];
    slot.leave();
    timers::disarm_all(&domain, slot.id);
    descriptors::drop_all(&mut vcpu);
    // The audit must not look at it any more. Its roots are released with it.
    slot.set_vcpu(None);
}

/// Destroys a vCPU whose domain ended; after the last one, teardown begins. The vCPU isn't loaded.
pub fn destroy_vcpu(vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    drop_vcpu(vcpu);
    if !domain.lifecycle.remove_vcpu() {
        return;
    }
    ports::reset(&domain);
    // Watchdogs are timers of vCPU 0, whichever vCPU armed them.
    for slot in &domain.slots {
        timers::disarm_all(&domain, slot.id);
    }
    begin(domain);
}

/// What is being done for a dying domain.
#[derive(Debug)]
enum Phase {
    /// Its frames are dumped, as its manifest requests.
    Dump(FrameDump),
    /// Its memory is freed.
    Memory(DomainTeardown),
}

/// A domain without vCPUs.
struct Dying {
    domain: DomainRef,
    phase: Phase,
}

/// Dying domains that no CPU works on.
static DYING: Mutex<VecDeque<Dying>> = Mutex::new(VecDeque::new());
/// Dying domains: on the list, or with a CPU.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Reserves room for so many domains.
pub fn reserve(domains: usize) {
    DYING.lock().reserve(domains);
}

/// Whether a domain is dying, so that there is work left.
pub fn is_any() -> bool {
    // SeqCst: a CPU that did a step and has a vCPU to run kicks an idle CPU; a CPU marks itself idle
    // before it reads this.
    COUNT.load(Ordering::SeqCst) != 0
}

/// Whether there is work that no CPU does.
pub fn is_any_waiting() -> bool {
    is_any() && !DYING.lock().is_empty()
}

/// Begins the teardown of a domain without vCPUs.
pub fn begin(domain: DomainRef) {
    let phase = if domain.rights.dump_frames {
        Phase::Dump(FrameDump::new())
    } else {
        Phase::Memory(begin_memory(&domain))
    };
    COUNT.fetch_add(1, Ordering::SeqCst);
    DYING.lock().push_back(Dying { domain, phase });
}

/// Logs how the domain ended, and begins to free its memory.
fn begin_memory(domain: &Domain) -> DomainTeardown {
    summary::close(domain);
    drop_own_refs(domain)
}

/// Drops the references on the domain's frames that the hypervisor itself holds.
fn drop_own_refs(domain: &Domain) -> DomainTeardown {
    let id = domain.id;
    domain.console.lock().close();
    domain.store.close();
    for slot in &domain.slots {
        slot.forget_info(domain.shared_page);
    }
    DomainTeardown::new(id)
}

/// Does a bounded step for one of the dying domains. False if there is none, or other CPUs work on
/// all of them.
pub fn step() -> bool {
    if !is_any() {
        return false;
    }
    let Some(mut dying) = DYING.lock().pop_front() else { return false };
    latency::begin_span(Activity::TEARDOWN);
    match &mut dying.phase {
        Phase::Dump(dump) => {
            if dump.step(&dying.domain) {
                dying.phase = Phase::Memory(begin_memory(&dying.domain));
            }
        }
        Phase::Memory(teardown) => {
            let grants = &dying.domain.grants;
            let report = &mut |refusal: &_| log::error!("teardown: {refusal}");
            match teardown.step(frames::allocator(), grants, &Listed, ENTRIES, report) {
                TeardownStep::More => {}
                TeardownStep::Done(summary) => {
                    finish(&dying.domain, summary);
                    COUNT.fetch_sub(1, Ordering::SeqCst);
                    summary::gone();
                    return true;
                }
            }
        }
    }
    DYING.lock().push_back(dying);
    true
}

/// All frames are freed, or left for another domain to free.
fn finish(domain: &Domain, summary: TeardownSummary) {
    let TeardownSummary { freed, kept, stuck } = summary;
    platform::set_window(domain.id, None);
    domain::unlist(domain.id);
    domain.per_domain.free();
    domain.control_blocks.release();
    let free_frames = frames::free_count();
    write_record(domain.who(), &Teardown { freed, kept, stuck, free_frames });
}

/// Frees the memory of a domain that could not be built: at boot, when nothing else runs.
pub fn release_unstarted(domain: &Domain) {
    let mut teardown = drop_own_refs(domain);
    let report = &mut |refusal: &_| log::error!("teardown: {refusal}");
    loop {
        let grants = &domain.grants;
        if let TeardownStep::Done(summary) =
            teardown.step(frames::allocator(), grants, &Listed, ENTRIES, report)
        {
            return finish(domain, summary);
        }
    }
}
