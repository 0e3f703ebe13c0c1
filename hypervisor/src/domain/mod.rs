//! Domains: what they own, how they start, run and end.

pub mod builder;
pub mod context;
pub mod ending;
pub mod regions;
pub mod scheduler;
pub mod stats;
pub mod vcpu;
pub mod window;

use crate::boot::Machine;
use crate::boot::archive::Archive;
use crate::console::guest::GuestConsole;
use crate::console::log::record;
use crate::machine;
use crate::memory::report::RateLimit;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use ending::Ending;
use pinfold_abi::record::Who;
use pinfold_validator::{DomId, External, Mfn};
use spin::{Mutex, Once};
use stats::Stats;
use vcpu::Vcpu;
use window::Window;

/// A domain, as far as it isn't a vCPU's.
pub struct Domain {
    /// Number, from 1.
    pub id: DomId,
    /// Name from the manifest.
    pub name: String,
    /// Frame of the page shared with the hypervisor.
    pub shared_info: Mfn,
    /// Tables of the per-domain L4 slot.
    pub window: Window,
    /// Frames that the domain has.
    pub pages: AtomicU64,
    /// Frames that it may have.
    pub max_pages: u64,
    /// Ranges that the guest gave names.
    pub regions: Mutex<regions::Regions>,
    /// Counters.
    pub stats: Stats,
    /// What the guest prints, and what is typed for it.
    pub console: Mutex<GuestConsole>,
    /// `vm_assist` types that are on, as bits.
    pub assists: AtomicU64,
    /// Budget of log records that the guest can cause.
    pub log_limit: RateLimit,
    /// Set once, when the domain is to end; its vCPUs then run no more.
    pub ending: Once<Ending>,
    /// What its vCPU held of frames when it last left the processor, for the audit.
    pub held: Mutex<Vec<External>>,
}

/// Domains that have frames.
static DOMAINS: Mutex<Vec<DomainRef>> = Mutex::new(Vec::new());

/// What the vCPUs of all domains but one hold, as of when they last left the processor.
pub fn held_by_others(one: Option<DomId>) -> Vec<External> {
    let domains = DOMAINS.lock();
    let others = domains.iter().filter(|domain| Some(domain.id) != one);
    others.flat_map(|domain| domain.held.lock().clone()).collect()
}

/// What the consoles of all domains hold.
pub fn held_by_consoles() -> Vec<External> {
    DOMAINS.lock().iter().filter_map(|domain| domain.console.lock().held()).collect()
}

/// Lists a domain that is being built.
pub fn list(domain: &DomainRef) {
    DOMAINS.lock().push(domain.clone());
}

/// A domain that has frames.
pub fn find(id: DomId) -> Option<DomainRef> {
    DOMAINS.lock().iter().find(|domain| domain.id == id).cloned()
}

/// The next domain by number; the first, if none is given.
pub fn after(id: Option<DomId>) -> Option<DomainRef> {
    let domains = DOMAINS.lock();
    domains.iter().filter(|d| id.is_none_or(|id| d.id > id)).min_by_key(|d| d.id).cloned()
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

    /// Ends the domain; the first reason stands.
    pub fn end(&self, ending: Ending) {
        self.ending.call_once(|| ending);
    }
}

/// How many guests ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Guests in the manifest.
    pub guests: usize,
    /// Powered off.
    pub ok: usize,
    /// Reported a failure of their own.
    pub failed: usize,
    /// Ended by the hypervisor, or not startable.
    pub crashed: usize,
    /// Alias violations of all of them.
    pub aliases: u64,
}

/// Builds every domain of the manifest, runs them to their ends and stops the machine.
pub fn start_all(boot: &Machine) -> ! {
    let archive = Archive::open(boot);
    let manifest = match archive.manifest() {
        Ok(manifest) => manifest,
        Err(error) => {
            record!(Who::Hypervisor, NOSTART, "{error}");
            finish(Tally { guests: 1, crashed: 1, ..Tally::default() });
        }
    };
    if let pinfold_image::Exit::DebugExit(exit_port) = manifest.exit {
        machine::set_exit_port(exit_port);
    }
    log::set_max_level(manifest.log.into());
    let mut tally = Tally { guests: manifest.domains.len(), ..Tally::default() };
    let mut vcpus: Vec<Box<Vcpu>> = Vec::new();
    for (index, config) in manifest.domains.iter().enumerate() {
        let id = DomId::new(index as u16 + 1);
        match builder::build(id, config, &archive) {
            Ok(vcpu) => vcpus.push(vcpu),
            Err(error) => {
                record!(
                    Who::Domain(id.get()),
                    NOSTART,
                    "name={:?} reason=\"{error}\"",
                    config.name
                );
                tally.crashed += 1;
            }
        }
    }
    scheduler::run(vcpus, &mut tally);
    crate::memory::audit::run(None);
    finish(tally)
}

fn finish(tally: Tally) -> ! {
    let Tally { guests, ok, failed, crashed, aliases } = tally;
    record!(
        Who::Hypervisor,
        END,
        "guests={guests} ok={ok} failed={failed} crashed={crashed} aliases={aliases}"
    );
    machine::end(if ok == guests { machine::Ending::Good } else { machine::Ending::Bad })
}

/// A domain shared by its vCPU and whoever looks at it.
pub type DomainRef = Arc<Domain>;
