//! A domain: what it owns, besides its vCPUs' states.

use super::per_domain::PerDomainMappings;
use super::regions::Regions;
use super::shared_page::SharedPage;
use super::shutdown_reason::ShutdownReason;
use super::stats::Stats;
use super::vcpu_slot::VcpuSlot;
use crate::backend::console::guest::GuestConsole;
use crate::backend::store::guest::GuestStore;
use crate::console::log::write_record;
use crate::console::rate_limit::RateLimit;
use crate::event::port_table::Ports;
use crate::grant::GrantState;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::record::{CrashIdle, Text, Who};
use pinfold_abi::sched::SHUTDOWN_POWEROFF;
use pinfold_validator::DomId;
use spin::Once;

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
    pub regions: Mutex<Regions>,
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

/// A domain shared by its vCPUs and whoever looks at it.
pub type DomainRef = Arc<Domain>;

impl Domain {
    /// Whom log records are about.
    pub fn who(&self) -> Who {
        Who::Domain(self.id.get())
    }

    /// Whether a `vm_assist` type is on.
    pub fn assists(&self, kind: u64) -> bool {
        kind < 64 && self.assists.load(Ordering::Relaxed) & 1 << kind != 0
    }

    /// Whether the domain is to end, or at its end.
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.ending.is_completed()
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
        if !self.is_ending() {
            let (name, reason) = (Text::Str(&self.name), Text::Str(why));
            write_record(self.who(), &CrashIdle { name, reason });
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
