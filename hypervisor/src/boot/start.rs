//! Builds and starts the domains of the manifest.

use super::archive::{Archive, ArchiveError};
use super::build_domain;
use super::smp;
use crate::console::log::{write, write_record};
use crate::domain::{DomainRef, scheduler, timers};
use crate::memory::{canaries, heap};
use crate::run::{self, summary};
use crate::time::timer_queue::TimerKind;
use crate::time::{clock, timers as cpu_timers};
use crate::{console, machine};
use alloc::vec::Vec;
use pinfold_abi::record::{NoStart, Text, Who, kind};
use pinfold_image::Manifest;
use pinfold_validator::DomId;

/// Allocates the lists of the scheduler and the timers for all vCPUs: nothing is allocated once guests
/// run. Returns `false` if memory is short.
fn reserve_lists(vcpus: usize) -> bool {
    let bytes = scheduler::heap_bytes(vcpus) + cpu_timers::heap_bytes(vcpus);
    heap::grow(heap::order_for(bytes))
        && scheduler::reserve(vcpus).is_ok()
        && cpu_timers::reserve(vcpus).is_ok()
}

/// Builds all domains of the manifest and runs them, on all CPUs, until the last one ends.
pub fn start_all(archive: &Archive, manifest: Result<Manifest, ArchiveError>) -> ! {
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => {
            write(Who::Hypervisor, kind::NOSTART, format_args!("{error}"));
            summary::count_unstarted();
            summary::finish();
        }
    };
    if let pinfold_image::Exit::DebugExit(exit_port) = manifest.exit {
        machine::set_exit_port(exit_port);
    }
    log::set_max_level(manifest.log.into());
    if manifest.canaries {
        canaries::enable();
    }
    let vcpus = manifest.domains.iter().map(|domain| domain.vcpus as usize).sum();
    if !reserve_lists(vcpus) {
        write(
            Who::Hypervisor,
            kind::NOSTART,
            format_args!("no memory for the lists of {vcpus} vCPUs"),
        );
        summary::count_unstarted();
        summary::finish();
    }
    let mut built: Vec<(DomainRef, Option<u32>)> = Vec::new();
    for (index, config) in manifest.domains.iter().enumerate() {
        let id = DomId::new(index as u16 + 1);
        match build_domain::build(id, config, archive) {
            Ok(domain) => built.push((domain, config.lifetime_ms)),
            Err(error) => {
                let (name, reason) = (Text::Str(&config.name), Text::Shown(&error));
                write_record(Who::Domain(id.get()), &NoStart { name, reason });
                summary::count_unstarted();
            }
        }
    }
    if built.is_empty() {
        summary::finish();
    }
    summary::expect(built.len());
    heap::forbid_allocations();
    for (domain, lifetime_ms) in &built {
        if let Some(ms) = *lifetime_ms {
            let end = clock::now_ns() + u64::from(ms) * 1_000_000;
            timers::arm(domain, 0, TimerKind::Lifetime, end, 0);
        }
        domain.slots[0].bring_up();
    }
    console::start(built.len());
    drop(built);
    smp::release_aps();
    run::run()
}
