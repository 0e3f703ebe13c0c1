//! Domains: what they own, how they start, run and end.

pub mod bounce;
pub mod builder;
pub mod context;
pub mod ending;
pub mod ldt;
pub mod per_domain;
pub mod regions;
pub mod runstate;
pub mod scheduler;
pub mod shared_page;
pub mod stats;
pub mod vcpu;
pub mod vcpu_info;
pub mod vcpu_slot;
pub mod work;

use crate::backend::console::guest::GuestConsole;
use crate::backend::store::GuestStore;
use crate::boot::archive::{Archive, ArchiveError};
use crate::boot::processors;
use crate::console::log::record;
use crate::diagnostics::report::RateLimit;
use crate::event::Ports;
use crate::grant::GrantState;
use crate::memory::{canaries, heap};
use crate::sync::Mutex;
use crate::time::clock;
use crate::time::timers::{self, Kind};
use crate::{console, machine};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use ending::ShutdownReason;
use per_domain::PerDomainMappings;
use pinfold_abi::record::Who;
use pinfold_abi::sched::SHUTDOWN_POWEROFF;
use pinfold_image::Manifest;
use pinfold_validator::DomId;
use shared_page::SharedPage;
use spin::Once;
use stats::Stats;
pub use vcpu_slot::VcpuSlot;

/// A domain, as far as it isn't a vCPU's.
pub struct Domain {
    /// Number, from 1.
    pub id: DomId,
    /// Name from the manifest.
    pub name: String,
    /// The page shared with the hypervisor.
    pub shared_page: SharedPage,
    /// Tables of the per-domain L4 slot.
    pub per_domain: PerDomainMappings,
    /// Its vCPUs, by number.
    pub slots: Box<[VcpuSlot]>,
    /// vCPUs that have a state: the last one that is dropped takes the domain's memory with it.
    pub states: AtomicUsize,
    /// vCPUs that may poll ports.
    pub pollers: AtomicUsize,
    /// Event ports.
    pub ports: Mutex<Ports>,
    /// Frames that the domain has.
    pub pages: AtomicU64,
    /// Frames that it may have.
    pub max_pages: u64,
    /// What it lends and borrows.
    pub grants: GrantState,
    /// Ranges that the guest gave names.
    pub regions: Mutex<regions::Regions>,
    /// Counters.
    pub stats: Stats,
    /// What the guest prints, and what is typed for it.
    pub console: Mutex<GuestConsole>,
    /// Its store.
    pub store: GuestStore,
    /// `vm_assist` types that are on, as bits.
    pub assists: AtomicU64,
    /// The guest kernel's virtual I/O privilege level.
    pub iopl: AtomicU32,
    /// What the manifest allows it, and wants of it.
    pub rights: Rights,
    /// Budget of log records that the guest can cause.
    pub log_limit: RateLimit,
    /// Which of its watchdogs run.
    pub watchdogs: Mutex<[bool; 2]>,
    /// Why it is about to end, if it said so before it does.
    pub reason: Once<u32>,
    /// Set once, when the domain is to end; its vCPUs then run no more.
    pub ending: Once<ShutdownReason>,
}

/// What the manifest says of a domain besides its size.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// It may ask for audits and frame dumps.
    pub diagnose: bool,
    /// Its frames are dumped when it ends.
    pub dump_frames: bool,
}

/// Domains that have frames.
static DOMAINS: Mutex<Vec<DomainRef>> = Mutex::new(Vec::new());

/// All domains that have frames, in the order of their numbers. The list is looked at anew for each:
/// it isn't locked between, and nothing is copied.
pub fn all() -> impl Iterator<Item = DomainRef> {
    core::iter::successors(after(None), |domain| after(Some(domain.id)))
}

/// A domain by its number.
pub fn find(id: DomId) -> Option<DomainRef> {
    DOMAINS.lock().iter().find(|domain| domain.id == id).cloned()
}

/// The next domain by number; the first, if none is given.
pub fn after(id: Option<DomId>) -> Option<DomainRef> {
    let domains = DOMAINS.lock();
    domains.iter().filter(|d| id.is_none_or(|id| d.id > id)).min_by_key(|d| d.id).cloned()
}

/// Lists a domain that is being built.
pub fn list(domain: &DomainRef) {
    DOMAINS.lock().push(domain.clone());
}

/// Takes a domain off the list, when its frames are gone.
pub fn unlist(id: DomId) {
    DOMAINS.lock().retain(|domain| domain.id != id);
}

impl Domain {
    /// Whom log records are about.
    pub fn who(&self) -> Who {
        Who::Domain(self.id.get())
    }

    /// Whether a `vm_assist` type is on.
    pub fn assists(&self, kind: u64) -> bool {
        kind < 64 && self.assists.load(Ordering::Relaxed) & 1 << kind != 0
    }

    /// Ends the domain; the first reason stands. Its vCPUs stop as soon as they see it.
    pub fn end(&self, ending: ShutdownReason) {
        self.ending.call_once(|| ending);
        for slot in &self.slots {
            slot.force_wake();
        }
    }

    /// The last vCPU that goes down takes the domain with it: nothing could bring one up again.
    pub fn end_if_all_down(&self) {
        if !self.slots.iter().any(VcpuSlot::is_up) {
            self.end(ShutdownReason::Shutdown(SHUTDOWN_POWEROFF));
        }
    }

    /// Ends the domain from outside, whatever its vCPUs do now.
    pub fn destroy(&self, why: &'static str) {
        if !self.ending.is_completed() {
            record!(self.who(), CRASH, "name={:?} reason=\"{why}\"", self.name);
            self.end(ShutdownReason::Crash(why));
        }
    }

    /// A port became pending: vCPUs that poll may want it.
    pub fn kick_pollers(&self) {
        // SeqCst: a poller counts itself first and looks at the ports then.
        if self.pollers.load(Ordering::SeqCst) != 0 {
            for slot in &self.slots {
                slot.kick_poller();
            }
        }
    }
}

/// Makes room in the hypervisor's own lists for all vCPUs there will be: once guests run, they
/// don't grow. `false` if there is no memory for it.
fn reserve_lists(vcpus: usize) -> bool {
    let bytes = scheduler::heap_bytes(vcpus) + timers::heap_bytes(vcpus);
    heap::grow(heap::order_for(bytes))
        && scheduler::reserve(vcpus).is_ok()
        && timers::reserve(vcpus).is_ok()
}

/// Builds every domain of the manifest and runs them, on all processors, to their ends.
pub fn start_all(archive: &Archive, manifest: Result<Manifest, ArchiveError>) -> ! {
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => {
            record!(Who::Hypervisor, NOSTART, "{error}");
            ending::count_unstarted();
            ending::finish();
        }
    };
    if let pinfold_image::Exit::DebugExit(exit_port) = manifest.exit {
        machine::set_exit_port(exit_port);
    }
    log::set_max_level(manifest.log.into());
    if manifest.canaries {
        canaries::start();
    }
    let vcpus = manifest.domains.iter().map(|domain| domain.vcpus as usize).sum();
    if !reserve_lists(vcpus) {
        record!(Who::Hypervisor, NOSTART, "no memory for the lists of {vcpus} vCPUs");
        ending::count_unstarted();
        ending::finish();
    }
    let mut built: Vec<(DomainRef, Option<u32>)> = Vec::new();
    for (index, config) in manifest.domains.iter().enumerate() {
        let id = DomId::new(index as u16 + 1);
        match builder::build(id, config, archive) {
            Ok(domain) => built.push((domain, config.lifetime_ms)),
            Err(error) => {
                record!(
                    Who::Domain(id.get()),
                    NOSTART,
                    "name={:?} reason=\"{error}\"",
                    config.name
                );
                ending::count_unstarted();
            }
        }
    }
    if built.is_empty() {
        ending::finish();
    }
    ending::expect(built.len());
    heap::forbid_allocations();
    for (domain, lifetime_ms) in &built {
        if let Some(ms) = *lifetime_ms {
            let end = clock::now_ns() + u64::from(ms) * 1_000_000;
            timers::arm(domain, 0, Kind::Lifetime, end, 0);
        }
        domain.slots[0].bring_up();
    }
    console::start(built.len());
    drop(built);
    processors::release_aps();
    scheduler::run()
}

/// A domain shared by its vCPUs and whoever looks at it.
pub type DomainRef = Arc<Domain>;
