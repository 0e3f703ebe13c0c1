//! The end of a domain's memory: every reference dropped, every frame free again, and proof of it.
//!
//! It takes the longer the more memory the domain had, so it is done in steps: the list of dying
//! domains is worked on between two turns of vCPUs, and by processors that have no vCPU to run. A
//! domain is on the list, or with one processor that does a step of its teardown.

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

/// Drops a vCPU that runs no more and isn't loaded, and all that it holds. What one attempt doesn't
/// reach of its tables is taken apart with the domain's others.
pub fn drop_vcpu(mut vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    let slot = &domain.slots[usize::from(vcpu.id)];
    slot.leave();
    timers::disarm_all(&domain, slot.id);
    descriptors::drop_all(&mut vcpu);
    // The audit must not look at it any more. Its roots are released with it.
    slot.set_vcpu(None);
}

/// Drops a vCPU whose domain ended; with the last one the domain's memory begins to go. The vCPU
/// isn't loaded.
pub fn destroy_vcpu(vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    drop_vcpu(vcpu);
    if !domain.lifecycle.remove_vcpu() {
        return;
    }
    ports::reset(&domain);
    // A watchdog is a timer of vCPU 0's, whichever armed it last.
    for slot in &domain.slots {
        timers::disarm_all(&domain, slot.id);
    }
    begin(domain);
}

/// What is done for a dying domain.
#[derive(Debug)]
enum Phase {
    /// Its frames are dumped first, as its manifest wants it.
    Dump(FrameDump),
    /// Its memory is freed.
    Memory(DomainTeardown),
}

/// A domain that has no vCPU any more.
struct Dying {
    domain: DomainRef,
    phase: Phase,
}

/// Domains whose turn it is to be taken apart.
static DYING: Mutex<VecDeque<Dying>> = Mutex::new(VecDeque::new());
/// Domains that are dying: on the list, or with a processor.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Makes room for so many domains.
pub fn reserve(domains: usize) {
    DYING.lock().reserve(domains);
}

/// Whether a domain is dying: there is work left.
pub fn is_any() -> bool {
    // SeqCst: who has both a domain on the list and a vCPU to run kicks a sleeper after each step; a
    // sleeper says that it sleeps first.
    COUNT.load(Ordering::SeqCst) != 0
}

/// Whether there is work that no processor is at.
pub fn is_any_waiting() -> bool {
    is_any() && !DYING.lock().is_empty()
}

/// Begins to take a domain apart that has no vCPU any more.
pub fn begin(domain: DomainRef) {
    let phase = if domain.rights.dump_frames {
        Phase::Dump(FrameDump::new())
    } else {
        Phase::Memory(begin_memory(&domain))
    };
    COUNT.fetch_add(1, Ordering::SeqCst);
    DYING.lock().push_back(Dying { domain, phase });
}

/// Says how the domain ended, and begins to free its memory.
fn begin_memory(domain: &Domain) -> DomainTeardown {
    summary::close(domain);
    drop_own_refs(domain)
}

/// Drops what the hypervisor itself holds of the domain's frames.
fn drop_own_refs(domain: &Domain) -> DomainTeardown {
    let id = domain.id;
    domain.console.lock().close();
    domain.store.close();
    for slot in &domain.slots {
        slot.forget_info(domain.shared_page);
    }
    DomainTeardown::new(id)
}

/// Does a bounded part of what is to be done for one of the dying domains. False if there is nothing
/// to do, or other processors are at it.
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

/// All frames are free, or another domain's to free.
fn finish(domain: &Domain, summary: TeardownSummary) {
    let TeardownSummary { freed, kept, stuck } = summary;
    platform::set_window(domain.id, None);
    domain::unlist(domain.id);
    domain.per_domain.free();
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
