//! What all scenarios use: the vCPUs, and the [`Mmu`] behind a lock.

use crate::failure::Failed;
use crate::failure::Failure;
use arrayvec::ArrayString;
use core::fmt::Write;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};
use pinfold_guest::entry::lock::{Mutex, MutexGuard};
use pinfold_guest::entry::vcpu_pool::{VcpuPool, set_progress};
use pinfold_guest::entry::{Boot, Native, smp};
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::{Policy, Region};

/// The [`Mmu`], locked.
pub(crate) type Owner<'a> = MutexGuard<'a, Mmu<Native>>;

/// The state of a run of scenarios.
pub(crate) struct Fixture<'a> {
    pool: VcpuPool,
    mmu: &'a Mutex<Mmu<Native>>,
    rounds: u64,
    seed: u64,
    on_xen: bool,
    scenario: char,
    /// Calls of [`Fixture::all`] so far: each has random numbers of its own.
    pieces: AtomicU64,
}

impl<'a> Fixture<'a> {
    /// Starts the vCPUs.
    pub(super) fn open(mmu: &'a Mutex<Mmu<Native>>, boot: &Boot) -> Result<Fixture<'a>, Failed> {
        let pool = VcpuPool::start("stress", smp::count().max(1)).map_err(|errno| {
            println!("stress: the vCPUs can't be started: {errno}");
            Failed
        })?;
        Ok(Fixture {
            pool,
            mmu,
            rounds: boot.number("rounds", 400),
            seed: boot.number("seed", 1),
            on_xen: boot.is_first_domain(),
            scenario: '-',
            pieces: AtomicU64::new(0),
        })
    }

    pub(super) fn set_scenario(&mut self, scenario: char) {
        self.scenario = scenario;
    }

    /// Returns the scenario's digit.
    pub(crate) fn scenario(&self) -> char {
        self.scenario
    }

    /// Returns the number of vCPUs.
    pub(crate) fn count(&self) -> usize {
        self.pool.count() as usize
    }

    /// Returns the rounds of each form, summed over all vCPUs.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Whether this is Xen, which names no mappings.
    pub(crate) fn on_xen(&self) -> bool {
        self.on_xen
    }

    /// Locks the [`Mmu`]. A vCPU must not lock it twice. Contents are read and written without it.
    pub(crate) fn mmu(&self) -> Owner<'a> {
        self.mmu.lock()
    }

    /// Writes a mark to the hypervisor's log, so that its records can be tied to this round.
    pub(crate) fn mark(&self, round: u64, what: &str) {
        let mut text = ArrayString::<120>::new();
        // What doesn't fit is cut off. Where `mark` doesn't exist, nobody reads the log.
        let _ = write!(text, "scenario={} round={round} {what}", self.scenario);
        let _ = pinfold::mark(&text);
    }

    /// Sets the policy for dead mappings.
    pub(crate) fn set_policy(&self, policy: Policy) -> Result<(), Failed> {
        self.once(|| Ok(self.mmu().set_policy(policy)?))
    }

    /// Opens a named part of the vmap range: reports give the name.
    pub(crate) fn region(&self, name: &'static str, pages: u64) -> Result<Region, Failed> {
        self.mmu().open_region(name, pages).map_err(|error| {
            println!("scenario {}: region {name}: {error}", self.scenario);
            Failed
        })
    }

    /// Does something on this vCPU alone, and prints what went wrong.
    pub(crate) fn once(&self, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failed> {
        work().map_err(|wrong| {
            println!("scenario {}: {wrong}", self.scenario);
            Failed
        })
    }

    /// Runs rounds on all vCPUs at once, `rounds` in total. `work` gets the number of the vCPU, the
    /// number of the round, and random numbers that the seed repeats. The first failure is printed,
    /// and stops the other vCPUs.
    pub(crate) fn all(
        &self,
        rounds: u64,
        work: impl Fn(usize, u64, &mut Random) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failed> {
        let count = u64::from(self.pool.count());
        let piece = self.pieces.fetch_add(1, SeqCst);
        let failed = AtomicBool::new(false);
        self.pool.run(&|id| {
            let mut random = Random::new(self.seed + piece * 7919 + u64::from(id) * 977);
            for round in (u64::from(id)..rounds).step_by(count as usize) {
                if failed.load(SeqCst) {
                    return;
                }
                set_progress(round as u32);
                if let Err(wrong) = work(id as usize, round, &mut random) {
                    failed.store(true, SeqCst);
                    println!("scenario {}: vCPU {id}, round {round}: {wrong}", self.scenario);
                }
            }
        });
        if failed.into_inner() { Err(Failed) } else { Ok(()) }
    }
}
