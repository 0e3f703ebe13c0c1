//! What scenarios run on: all vCPUs, and the owner of the mappings behind a lock.

use crate::Failed;
use crate::violation::Wrong;
use arrayvec::ArrayString;
use core::fmt::Write;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};
use pinfold_guest::entry::lock::{Mutex, MutexGuard};
use pinfold_guest::entry::vcpu_pool::{VcpuPool, at};
use pinfold_guest::entry::{Boot, Native, smp};
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::{Policy, Region};

/// The owner of the mappings, for one vCPU at a time.
pub(crate) type Owner<'a> = MutexGuard<'a, Mmu<Native>>;

/// All that a scenario works with.
pub(crate) struct Fixture<'a> {
    team: VcpuPool,
    mmu: &'a Mutex<Mmu<Native>>,
    rounds: u64,
    seed: u64,
    on_xen: bool,
    scenario: char,
    /// Pieces of work so far: each has random numbers of its own.
    pieces: AtomicU64,
}

impl<'a> Fixture<'a> {
    /// Starts the vCPUs.
    pub(super) fn open(mmu: &'a Mutex<Mmu<Native>>, boot: &Boot) -> Result<Fixture<'a>, Failed> {
        let team = VcpuPool::start("stress", smp::count().max(1)).map_err(|errno| {
            println!("stress: the vCPUs can't be started: {errno}");
            Failed
        })?;
        Ok(Fixture {
            team,
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

    /// The scenario's digit.
    pub(crate) fn scenario(&self) -> char {
        self.scenario
    }

    /// How many vCPUs there are.
    pub(crate) fn count(&self) -> usize {
        self.team.count() as usize
    }

    /// Rounds of each form, all vCPUs' together.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Whether this is Xen, which names no mapping.
    pub(crate) fn on_xen(&self) -> bool {
        self.on_xen
    }

    /// The owner of the mappings. Not to be taken twice: contents are touched without it.
    pub(crate) fn mmu(&self) -> Owner<'a> {
        self.mmu.lock()
    }

    /// Ties what the hypervisor logs to what is tried here.
    pub(crate) fn mark(&self, round: u64, what: &str) {
        let mut text = ArrayString::<120>::new();
        // What doesn't fit is cut off; and where there are no marks there is nobody to read them.
        let _ = write!(text, "scenario={} round={round} {what}", self.scenario);
        let _ = pinfold::mark(&text);
    }

    /// Has dead mappings dealt with in this way from now on.
    pub(crate) fn set_policy(&self, policy: Policy) -> Result<(), Failed> {
        self.once(|| Ok(self.mmu().set_policy(policy)?))
    }

    /// A part of the vmap range with a name of its own, for reports.
    pub(crate) fn region(&self, name: &'static str, pages: u64) -> Result<Region, Failed> {
        self.mmu().open_region(name, pages).map_err(|error| {
            println!("scenario {}: no addresses for {name}: {error}", self.scenario);
            Failed
        })
    }

    /// Does something on the running vCPU alone.
    pub(crate) fn once(&self, work: impl FnOnce() -> Result<(), Wrong>) -> Result<(), Failed> {
        work().map_err(|wrong| {
            println!("scenario {}: {wrong}", self.scenario);
            Failed
        })
    }

    /// Has every vCPU do so many rounds (all of them together) at once, each with its number, the
    /// round's, and random numbers that the seed repeats. The first that fails is printed, and
    /// the others stop.
    pub(crate) fn all(
        &self,
        rounds: u64,
        work: impl Fn(usize, u64, &mut Random) -> Result<(), Wrong> + Sync,
    ) -> Result<(), Failed> {
        let count = u64::from(self.team.count());
        let piece = self.pieces.fetch_add(1, SeqCst);
        let failed = AtomicBool::new(false);
        self.team.run(&|id| {
            let mut random = Random::new(self.seed + piece * 7919 + u64::from(id) * 977);
            for round in (u64::from(id)..rounds).step_by(count as usize) {
                if failed.load(SeqCst) {
                    return;
                }
                at(round as u32);
                if let Err(wrong) = work(id as usize, round, &mut random) {
                    failed.store(true, SeqCst);
                    println!("scenario {}: vCPU {id}, round {round}: {wrong}", self.scenario);
                }
            }
        });
        if failed.into_inner() { Err(Failed) } else { Ok(()) }
    }
}
