//! A domain: everything it owns but the state of its vCPUs.

use super::assists::Assists;
use super::lifecycle::Lifecycle;
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
use crate::grant::{self, GrantState};
use crate::memory::container::ControlBlocks;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::record::{CrashIdle, Text, Who};
use pinfold_abi::sched::SHUTDOWN_POWEROFF;
use pinfold_validator::DomId;

/// A domain.
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
    /// Its way to its end.
    pub lifecycle: Lifecycle,
    /// vCPUs that are polling ports, or about to.
    pollers: AtomicUsize,
    /// Event ports.
    pub ports: Mutex<Ports>,
    /// Frames that the domain owns.
    pub pages: AtomicU64,
    /// Frames that it may own at most.
    pub max_pages: u64,
    /// Its grant table, and the grants that it has mapped.
    pub grants: GrantState,
    /// Address ranges that the guest named.
    pub regions: Mutex<Regions>,
    /// Counters.
    pub stats: Stats,
    /// Its console: output, and typed input.
    pub console: Mutex<GuestConsole>,
    /// Its xenstore.
    pub store: GuestStore,
    /// `vm_assist` types that are enabled.
    pub assists: Assists,
    /// The guest kernel's virtual I/O privilege level.
    pub iopl: AtomicU32,
    /// What the manifest permits and requests for it.
    pub rights: Rights,
    /// Control blocks of its vCPUs, if they run in hardware containers.
    pub control_blocks: ControlBlocks,
    /// Limit on the log records that the guest can cause.
    pub log_limit: RateLimit,
    /// Which of its watchdogs are armed.
    pub watchdogs: Mutex<[bool; 2]>,
}

/// Permissions and requests of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// It may request audits and frame dumps.
    pub diagnose: bool,
    /// Its frames are dumped when it ends.
    pub dump_frames: bool,
}

/// A counted reference to a domain.
pub type DomainRef = Arc<Domain>;

/// What a domain is built with; all else begins as [`Domain::new`] has it.
pub struct DomainParts {
    /// Number, from 1.
    pub id: DomId,
    /// Name from the manifest.
    pub name: String,
    /// The page shared with the hypervisor.
    pub shared_page: SharedPage,
    /// Tables of the per-domain L4 slot.
    pub per_domain: PerDomainMappings,
    /// vCPUs.
    pub vcpus: u16,
    /// Frames of its memory.
    pub pages: u64,
    /// Permissions and requests of the manifest.
    pub rights: Rights,
    /// Control blocks of its vCPUs, if they run in hardware containers.
    pub control_blocks: ControlBlocks,
}

impl Domain {
    /// A domain with one vCPU about to be initialised.
    pub fn new(parts: DomainParts) -> Domain {
        let DomainParts { id, name, shared_page, per_domain, vcpus, pages, rights, control_blocks } =
            parts;
        Domain {
            id,
            name,
            shared_page,
            per_domain,
            slots: (0..vcpus).map(|vcpu| VcpuSlot::new(vcpu, shared_page)).collect(),
            lifecycle: Lifecycle::new(),
            pollers: AtomicUsize::new(0),
            ports: Mutex::new(Ports::new()),
            pages: AtomicU64::new(pages),
            max_pages: pages,
            grants: GrantState::new(grant::platform()),
            regions: Mutex::default(),
            stats: Stats::default(),
            console: Mutex::new(GuestConsole::new(id)),
            store: GuestStore::default(),
            assists: Assists::default(),
            iopl: AtomicU32::new(0),
            rights,
            control_blocks,
            log_limit: RateLimit::default(),
            watchdogs: Mutex::default(),
        }
    }

    /// Counts a vCPU that is about to poll ports. It reads the ports after that: see
    /// [`Domain::kick_pollers`].
    pub(super) fn add_poller(&self) {
        self.pollers.fetch_add(1, Ordering::SeqCst);
    }

    /// Uncounts a vCPU that polls no more.
    pub(super) fn remove_poller(&self) {
        self.pollers.fetch_sub(1, Ordering::SeqCst);
    }

    /// The subject of its log records.
    pub fn who(&self) -> Who {
        Who::Domain(self.id.get())
    }

    /// Whether the domain is ending.
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.lifecycle.is_ending()
    }

    /// Ends the domain; the first reason counts. Its vCPUs stop at their next exit.
    pub fn end(&self, reason: ShutdownReason) {
        self.lifecycle.end(reason);
        for slot in &self.slots {
            slot.force_wake();
        }
    }

    /// Ends the domain if all vCPUs are offline: none is left that could bring one up.
    pub fn end_if_all_down(&self) {
        if !self.slots.iter().any(VcpuSlot::is_up) {
            self.end(ShutdownReason::Shutdown(SHUTDOWN_POWEROFF));
        }
    }

    /// Ends the domain from outside, whatever its vCPUs are doing.
    pub fn destroy(&self, why: &'static str) {
        if !self.is_ending() {
            let (name, reason) = (Text::Str(&self.name), Text::Str(why));
            write_record(self.who(), &CrashIdle { name, reason });
            self.end(ShutdownReason::Crash(why));
        }
    }

    /// Wakes vCPUs that poll a port, after one became pending.
    pub fn kick_pollers(&self) {
        // SeqCst: a poller counts itself first and reads the ports afterwards.
        if self.pollers.load(Ordering::SeqCst) != 0 {
            for slot in &self.slots {
                slot.kick_poller();
            }
        }
    }
}
