//! Random guests: several domains on several CPUs do anything from valid to absurd, interleaved,
//! with any budget, and now and then don't come back for what was preempted. After each step
//! everything is recounted, and no TLB may remember what it must not.
//!
//! `PINFOLD_OPS` sets how many operations there are in all (a million by default), `PINFOLD_SEED`
//! where the random numbers begin. A failure names its seed and step.

mod owners;
mod tables;
mod tally;

use super::oracle::would_pin;
use super::*;
use crate::addr::ENTRIES;
use pinfold_abi::mmu::MemoryType;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::vec;
use tally::Tally;

/// Random choices that a seed repeats.
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Slots that entries are written to: few, so that they meet; with all the borders.
const SLOTS: [usize; 9] = [0, 1, 2, 255, 256, 271, 272, 300, 511];

/// What the driver itself holds, so that it drops nothing twice and tells the audit.
#[derive(Default)]
struct Holdings {
    roots: Vec<(DomId, Mfn, Option<usize>)>,
    writable: Vec<(DomId, Mfn)>,
    descriptors: Vec<(DomId, Mfn)>,
    /// Granted frames that were mapped; the entries may be gone meanwhile.
    granted: Vec<GrantUnmapping>,
    /// Frames of the hypervisor's own.
    own: VecDeque<HypervisorFrames>,
}

impl Holdings {
    fn externals(&self) -> Vec<ExternalRef> {
        let roots = self.roots.iter().map(|&(_, frame, _)| held(frame, RefKind::Root));
        let writable = self.writable.iter().map(|&(_, frame)| held(frame, RefKind::Writable));
        let descriptors =
            self.descriptors.iter().map(|&(_, frame)| held(frame, RefKind::Descriptors));
        roots.chain(writable).chain(descriptors).collect()
    }
}

struct Driver {
    world: &'static World,
    setup: Setup,
    domains: Vec<DomId>,
    random: Random,
    held: Holdings,
    /// What came of it all: a driver whose every operation is refused proves nothing.
    done: Tally,
}

impl Driver {
    fn new(seed: u64, setup: Setup, domains: u16) -> Driver {
        let world = world(setup);
        let domains: Vec<DomId> = (1..=domains).map(DomId::new).collect();
        for number in 1..setup.frames as u64 {
            // Some stay free, some are shared.
            let dom = domains[number as usize % domains.len()];
            match number % 16 {
                13 => {}
                14 => world.share(mfn(number), dom).unwrap(),
                _ => world.assign(mfn(number), dom).unwrap(),
            }
        }
        let random = Random::new(seed);
        Driver { world, setup, domains, random, held: Holdings::default(), done: Tally::default() }
    }

    fn dom(&mut self) -> DomId {
        self.random.pick(&self.domains)
    }

    /// Any frame; mostly of the domain.
    fn frame(&mut self, dom: DomId) -> Mfn {
        for _ in 0..6 {
            let frame = mfn(self.random.below(self.setup.frames as u64));
            if self.world.owner(frame) == Some(dom) {
                return frame;
            }
        }
        match self.random.below(8) {
            0 => mfn(self.random.next()),
            1 => mfn(self.setup.frames as u64),
            _ => mfn(self.random.below(self.setup.frames as u64)),
        }
    }

    /// What a frame is best for: so that trees come about more often than by chance.
    fn role(frame: Mfn) -> Option<Level> {
        Level::from_number(frame.get() / 3 % 7)
    }

    /// A frame of a role, if one is found soon.
    fn frame_for(&mut self, dom: DomId, role: Option<Level>) -> Mfn {
        for _ in 0..12 {
            let frame = self.frame(dom);
            if Self::role(frame) == role || self.random.one_in(12) {
                return frame;
            }
        }
        self.frame(dom)
    }

    fn entry_for(&mut self, dom: DomId, table: Mfn) -> u64 {
        let target = match Self::role(table) {
            Some(level) if !self.random.one_in(10) => self.frame_for(dom, level.below()),
            _ => self.frame(dom),
        };
        let address = (target.address()) & pinfold_abi::mmu::ENTRY_ADDRESS;
        match self.random.below(24) {
            0..6 => 0,
            6 => self.random.next(),
            7 => self.random.next() & !P,
            8 => address | P | RW | 1 << self.random.below(64),
            9 => address | P | 1 << self.random.below(12),
            10..12 => {
                let memory = self.random.pick(&MemoryType::ALL);
                let writable = if self.random.one_in(2) { RW } else { 0 };
                address | P | US | writable | memory.flags().bits()
            }
            12..17 => address | P | US | AD,
            _ => address | P | RW | US,
        }
    }

    fn budget(&mut self) -> Budget {
        match self.random.below(5) {
            0 => Budget::new(1 + self.random.below(40) as u32),
            1 => Budget::new(1 + self.random.below(2000) as u32),
            _ => Budget::unlimited(),
        }
    }

    /// Does something that can be preempted, and mostly comes back until it's done.
    fn persist<T>(
        &mut self,
        mut step: impl FnMut(&mut Driver, &mut Budget) -> Result<T, Error>,
    ) -> Option<Result<T, Refusal>> {
        for round in 0.. {
            // Where mixing is told of, each call tells of one.
            let mut budget = if round > 50 { Budget::unlimited() } else { self.budget() };
            match step(self, &mut budget) {
                Ok(done) => return Some(Ok(done)),
                Err(Error::Refused(refusal)) => return Some(Err(refusal)),
                Err(Error::Preempted) => {
                    assert!(round < 600, "an unlimited budget was preempted with no other CPU");
                    self.done.preempted += 1;
                    self.check();
                    if self.random.one_in(6) {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn check(&self) {
        let mut scratch = vec![];
        audit(self.world, &self.held.externals(), &mut scratch);
        check_tlbs(self.world);
        check_caches(self.world);
    }

    fn step(&mut self) {
        match self.random.below(1000) {
            0..370 => self.update(),
            370..390 => self.map_granted(),
            390..400 => self.unmap_granted(),
            400..530 => self.pin(),
            530..600 => self.unpin(),
            600..660 => self.load_root(),
            660..810 => self.touch(),
            810..820 => self.guest_flush(),
            820..870 => self.emulated_store(),
            870..900 => self.direct_store(),
            900..920 => self.shootdown(),
            920..960 => self.get_entry(),
            960..999 => self.move_frame(),
            _ => self.death(),
        }
        self.check();
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Operations in each of the tests below.
fn operations() -> u64 {
    let default = if cfg!(miri) { 400 } else { 1_000_000 };
    setting("PINFOLD_OPS").unwrap_or(default).div_ceil(5)
}

fn drive(seed: u64, setup: Setup, domains: u16) {
    let seed = setting("PINFOLD_SEED").unwrap_or(0).wrapping_add(seed);
    let mut total = Tally::default();
    let mut left = operations();
    // Several worlds, so that one that has silted up doesn't take all.
    for round in 0.. {
        if left == 0 {
            break;
        }
        let steps = left.min(20_000);
        left -= steps;
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(round);
        let mut driver = Driver::new(seed, setup, domains);
        for step in 0..steps {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.step()));
            if let Err(panic) = caught {
                std::eprintln!("seed {seed} step {step} setup {setup:?} domains {domains}");
                std::panic::resume_unwind(panic);
            }
        }
        let machine = driver.world.platform();
        driver.done.reported = machine.reported.lock().unwrap().len() as u64;
        driver.done.cache_flushes =
            machine.cache_flushes.load(std::sync::atomic::Ordering::SeqCst) as u64;
        total.add(&driver.done);
    }
    if operations() >= 10_000 {
        total.assert_all_happened(domains, setup.cache);
    }
}

#[test]
fn random_guests_two_domains() {
    drive(1, Setup { frames: 40, cpus: 2, ..Setup::default() }, 2);
}

#[test]
fn random_guests_three_domains_four_cpus() {
    drive(2, Setup { frames: 64, cpus: 4, ..Setup::default() }, 3);
}

#[test]
fn random_guests_with_l1tf_and_no_nx() {
    drive(
        3,
        Setup {
            frames: 32,
            cpus: 2,
            nx: false,
            l1tf: true,
            physical_bits: 36,
            refuse_linear_roots: true,
            ..Setup::default()
        },
        2,
    );
}

/// Most mappings are mixed soon, and still nothing is validated from a stale view.
#[test]
fn random_guests_with_policy_report() {
    drive(5, Setup { frames: 40, cache: CachePolicy::Report, ..Setup::default() }, 2);
}

#[test]
fn random_guest_alone_in_a_crowd_of_frames() {
    drive(4, Setup { frames: 24, cpus: 3, ..Setup::default() }, 1);
}
