//! Locks, and their order.
//!
//! The hypervisor runs with interrupts disabled. So a CPU that spins on a lock can't be interrupted,
//! and the holder may itself wait for that CPU to flush its TLB. Hence every spin loop serves the
//! requests of other CPUs ([`ServiceIpis`]).
//!
//! # Lock order
//!
//! A CPU that holds a lock may take those with a higher number only.
//!
//! | no. | lock | protects | defined in |
//! |---|---|---|---|
//! | 0 | keyboard (only `try_lock`) | order of typed characters | `backend::console::keyboard` |
//! | 1 | `Domain::grants`: table, handles | the grant table; mappings by others | `pinfold_core::grant` |
//! | 2 | `Domain::store` | xenstore ring and connection | `backend::store::guest` |
//! | 2 | `Domain::console` | console ring and unfinished line | `backend::console::guest` |
//! | 2 | `Domain::watchdogs` | which watchdogs are armed | `domain::domain_state` |
//! | 3 | `Domain::ports` | event ports (two domains': lower number first) | `event::port_table` |
//! | 4 | `VcpuSlot::timers` | which timers of a vCPU are armed | `domain::vcpu_timers` |
//! | 5 | `VcpuSlot::state` | state of a vCPU | `domain::vcpu_slot` |
//! | 6 | `VcpuSlot::runstate` | runstate of a vCPU | `domain::runstate` |
//! | 7 | `VcpuSlot::info_frame`, `memory` | registered vCPU info; memory of a vCPU that is not up | `domain::vcpu_slot` |
//! | 7 | pending alias listings of a vCPU | reports whose mappings are still to be searched | `domain::alias_search` |
//! | 7 | page tables of per-domain mappings | their frames | `domain::per_domain` |
//! | 7 | dying domains | domains that are being torn down | `run::teardown` |
//! | 7 | run queue | runnable vCPUs | `domain::scheduler` |
//! | 7 | timer queue of a CPU | armed timers | `time::timers` |
//! | 8 | list of domains | all domains | `domain::list` |
//! | 8 | `Domain::regions` | named lazy regions | `domain::regions` |
//! | 8 | canary ring | frames that hold a canary | `pinfold_core::canaries` |
//! | 8 | free frames | bitmap of free frames | `pinfold_core::frames` |
//! | 9 | `Domain::log_limit` | a domain's budget of records | `console::rate_limit` |
//! | 9 | heap | the allocator | `memory::heap` |
//! | 9 | serial port (while domains run only `try_lock`) | UART and staged bytes | `console::serial` |
//! | 10 | log buffer | buffered output | `console::buffer` |
//!
//! No CPU holds two locks with the same number, except those of two domains' ports.

use crate::arch::ipi;
use spin::RelaxStrategy;

/// Spinning that serves the requests of other CPUs.
pub struct ServiceIpis;

impl RelaxStrategy for ServiceIpis {
    #[inline]
    fn relax() {
        ipi::service_ipis();
        core::hint::spin_loop();
    }
}

/// The lock that all parts of the hypervisor use.
pub type Mutex<T> = spin::mutex::Mutex<T, ServiceIpis>;

/// A lock that is granted in the order of requests, for locks with much contention.
pub type FairMutex<T> = spin::mutex::TicketMutex<T, ServiceIpis>;
