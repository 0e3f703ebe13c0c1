//! Random guests: several domains on several CPUs do anything from valid to absurd, interleaved,
//! with any budget, and now and then don't come back for what was preempted. After each step
//! everything is recounted, and no TLB may remember what it must not.
//!
//! `PINFOLD_OPS` sets how many operations there are in all (a million by default), `PINFOLD_SEED`
//! where the random numbers begin. A failure names its seed and step.

use super::oracle::would_pin;
use super::*;
use pinfold_abi::mmu::MemoryType;
use std::vec;

/// Small, fast, and the same everywhere (splitmix64, public domain).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
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
}

impl Holdings {
    fn externals(&self) -> Vec<External> {
        let roots = self.roots.iter().map(|&(_, frame, _)| held(frame, Held::Root));
        let writable = self.writable.iter().map(|&(_, frame)| held(frame, Held::Writable));
        let descriptors = self.descriptors.iter().map(|&(_, frame)| held(frame, Held::Descriptors));
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

/// How often things went well, and how often not.
#[derive(Debug, Default)]
struct Tally {
    pins: u64,
    refused_pins: u64,
    predicted: u64,
    updates: u64,
    plain: u64,
    refused_updates: u64,
    preempted: u64,
    roots: u64,
    deaths: u64,
    moves: u64,
    cleared: u64,
    granted: u64,
    refused_grants: u64,
    ungranted: u64,
    kept: u64,
    unusual: u64,
    refused_caching: u64,
    told: u64,
    cache_flushes: u64,
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
        let address = (target.get() << 12) & pinfold_abi::mmu::ENTRY_ADDRESS;
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
        mut step: impl FnMut(&mut Driver, &mut Budget) -> Result<T, Stop>,
    ) -> Option<Result<T, Refusal>> {
        for round in 0.. {
            // Where mixing is told of, each call tells of one.
            let mut budget = if round > 50 { Budget::unlimited() } else { self.budget() };
            match step(self, &mut budget) {
                Ok(done) => return Some(Ok(done)),
                Err(Stop::Refused(refusal)) => return Some(Err(refusal)),
                Err(Stop::Preempted) => {
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

    fn pin(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let level = match Self::role(frame) {
            Some(level) if !self.random.one_in(8) => level,
            _ => self.random.pick(&Level::ALL),
        };
        let partial = (0..self.setup.frames as u64)
            .any(|number| self.world.info(mfn(number)).unwrap().state() == State::Partial);
        let strict = self.setup.cache == CachePolicy::Strict;
        let expected =
            (!partial && strict).then(|| would_pin(self.world, self.setup, dom, level, frame));
        let mut first = true;
        let result = self.persist(|driver, budget| {
            let result = driver.world.pin(dom, level, frame, budget);
            first &= result != Err(Stop::Preempted);
            result
        });
        let Some(result) = result else { return };
        if let (Some(expected), true) = (expected, first) {
            assert_eq!(result.is_ok(), expected, "pin of {frame} as {level}: {result:?}");
            self.done.predicted += 1;
        }
        match result {
            Ok(()) => self.done.pins += 1,
            Err(refusal) => {
                self.done.refused_pins += 1;
                self.check_refusal(&refusal);
            }
        }
    }

    /// What a refusal says is so: an alias can be found.
    fn check_refusal(&mut self, refusal: &Refusal) {
        // Both forms must be printable, whatever is in them.
        let text = std::format!("{refusal} {}", refusal.fields());
        self.done.refused_caching += u64::from(refusal.is_cache_alias());
        assert!(!text.is_empty());
        let externally = self.held.writable.iter().any(|&(_, frame)| frame == refusal.frame);
        // Of a lent frame too: then in whoever's tables.
        if refusal.is_alias() && !externally && refusal.place.is_none() {
            let mut found = 0;
            self.world.find_mappings(
                refusal.frame,
                refusal.dom,
                Which::Writable,
                Bounds::default(),
                &mut |_| {
                    found += 1;
                    core::ops::ControlFlow::Break(())
                },
            );
            assert_eq!(found, 1, "{refusal}");
        }
    }

    fn unpin(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        self.persist(|driver, budget| driver.world.unpin(dom, frame, budget));
    }

    fn update(&mut self) {
        let dom = self.dom();
        let table = self.frame(dom);
        let value = self.entry_for(dom, table);
        let update = Update {
            dom,
            table_owner: dom,
            target_owner: if self.random.one_in(100) { self.dom() } else { dom },
            table,
            index: slot(self.random.pick(&SLOTS)),
            value,
            preserve_ad: self.random.one_in(3),
        };
        let result = self.persist(|driver, budget| driver.world.update(update, budget));
        match result {
            Some(Ok(Updated { level: Some(_), .. })) => {
                self.done.updates += 1;
                let present = value & P != 0 && Self::role(table) == Some(Level::L1);
                let unusual = value & MemoryType::FLAGS.bits() != 0;
                self.done.unusual += u64::from(present && unusual);
            }
            Some(Ok(_)) => self.done.plain += 1,
            Some(Err(refusal)) => {
                self.done.refused_updates += 1;
                self.check_refusal(&refusal);
            }
            None => {}
        }
    }

    fn emulated_store(&mut self) {
        let dom = self.dom();
        let table = self.frame_for(dom, Some(Level::L1));
        let index = slot(self.random.pick(&SLOTS));
        let new = self.entry_for(dom, table);
        let expected = if self.random.one_in(4) || table.get() >= self.setup.frames as u64 {
            new
        } else {
            self.world.platform().get(table, index.get())
        };
        self.persist(|driver, budget| {
            driver.world.update_l1_cas(dom, table, index, expected, new, budget).map(|_| ())
        });
    }

    /// A store by the guest itself: possible where it has the frame mapped writable.
    fn direct_store(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let Some(info) = self.world.info(frame) else { return };
        if info.owner() == Some(dom) && info.held_as() == Some(Kind::Writable) {
            let value = self.entry_for(dom, frame);
            let index = self.random.pick(&SLOTS);
            self.world.platform().set(frame, index, value);
        }
    }

    fn load_root(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        let dom = self.dom();
        let frame = self.frame_for(dom, Some(Level::L4));
        if self.random.one_in(5) {
            self.unload(cpu);
            return;
        }
        let taken = self.persist(|driver, budget| driver.world.take_root(dom, frame, budget));
        if let Some(Ok(())) = taken {
            self.done.roots += 1;
            self.world.platform().load(cpu, Some((dom, frame)));
            self.drop_loaded(cpu);
            self.held.roots.push((dom, frame, Some(cpu)));
        }
    }

    fn unload(&mut self, cpu: usize) {
        self.world.platform().load(cpu, None);
        self.drop_loaded(cpu);
    }

    /// Drops the root that was loaded on a CPU.
    fn drop_loaded(&mut self, cpu: usize) {
        if let Some(at) = self.held.roots.iter().position(|&(_, _, on)| on == Some(cpu)) {
            let (dom, frame, _) = self.held.roots.swap_remove(at);
            let mut budget = self.budget();
            self.world.drop_root(dom, frame, &mut budget).unwrap();
        }
    }

    fn touch(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        if self.random.one_in(4) {
            let which = self.random.next() as usize;
            return self.world.platform().use_stale(cpu, which);
        }
        let slots = [(); 4].map(|()| slot(self.random.pick(&SLOTS)));
        let [l4, l3, l2, l1] = slots;
        let address = Vaddr::from_indexes(l4, l3, l2, l1);
        if self.random.one_in(2) {
            self.world.platform().touch(cpu, address);
        } else {
            let which = self.random.next() as usize;
            self.world.platform().touch_cached(cpu, which, address);
        }
    }

    fn guest_flush(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        self.world.platform().flush_cpu(cpu);
    }

    fn shootdown(&mut self) {
        let dom = self.dom();
        let loaded = self.held.roots.first().map(|&(_, root, _)| root);
        let root = match loaded {
            Some(root) if !self.random.one_in(4) => root,
            _ => self.frame_for(dom, Some(Level::L4)),
        };
        let dom = self.world.owner(root).unwrap_or(dom);
        let slots = [(); 4].map(|()| slot(self.random.pick(&SLOTS)));
        let [l4, l3, l2, l1] = slots;
        let start = Vaddr::from_indexes(l4, l3, l2, l1);
        let pages = if self.random.one_in(2) { 1 << 35 } else { 1 << self.random.below(30) };
        let mut range = PageRange { start, pages };
        if self.random.one_in(2) {
            // A whole half: whatever is mapped.
            range.start = Vaddr::new(if self.random.one_in(2) { 0 } else { 0xffff_8800 << 32 });
        }
        let mut total = Shootdown::new();
        self.persist(|driver, budget| {
            driver.world.shootdown(dom, root, &mut range, budget, &mut total)
        });
        self.done.cleared += total.cleared;
        let pay = self.random.one_in(2);
        let debt = total.into_debt();
        if pay {
            debt.pay(self.world.platform());
        } else {
            drop(debt);
        }
    }

    /// One domain grants another (or itself) a frame, which maps it.
    fn map_granted(&mut self) {
        let (owner, dom) = (self.dom(), self.dom());
        let table = self.frame_for(dom, Some(Level::L1));
        let frame = self.frame(owner);
        let index = slot(self.random.pick(&SLOTS));
        let mut flags = pinfold_abi::mmu::EntryFlags::USER;
        let writable = self.random.one_in(2);
        flags.set(pinfold_abi::mmu::EntryFlags::WRITABLE, writable);
        let mapping = GrantMapping { dom, table, index, owner, frame, flags };
        match self.persist(|driver, budget| driver.world.map_granted(&mapping, budget)) {
            Some(Ok(_)) => {
                self.done.granted += u64::from(owner != dom);
                let unmapping =
                    GrantUnmapping { dom, table, index, frame, writable, replacement: 0 };
                self.held.granted.push(unmapping);
            }
            Some(Err(_)) => self.done.refused_grants += 1,
            None => {}
        }
    }

    fn unmap_granted(&mut self) {
        if self.held.granted.is_empty() {
            return;
        }
        let which = self.random.below(self.held.granted.len() as u64) as usize;
        let mut unmapping = self.held.granted.swap_remove(which);
        match self.random.below(8) {
            0 => unmapping.writable ^= true,
            1 => unmapping.frame = self.frame(unmapping.dom),
            2 => unmapping.dom = self.dom(),
            3 => unmapping.replacement = self.entry_for(unmapping.dom, unmapping.table),
            _ => {}
        }
        let mut debt = FlushDebt::none();
        let swapped = self
            .persist(|driver, budget| driver.world.unmap_granted(&unmapping, budget, &mut debt));
        self.done.ungranted += u64::from(swapped == Some(Ok(Swap::Done)));
        if self.random.one_in(2) {
            debt.pay(self.world.platform());
        }
    }

    fn hold(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        match self.random.below(4) {
            0 if self.world.take_writable(dom, frame).is_ok() => {
                self.held.writable.push((dom, frame));
            }
            1 if self.world.take_descriptors(dom, frame).is_ok() => {
                self.held.descriptors.push((dom, frame));
            }
            2 => {
                let (index, value) = (self.random.below(520) as usize, self.random.next());
                let _ = self.world.update_descriptor(dom, frame, index, value);
            }
            _ => self.let_go(),
        }
    }

    fn let_go(&mut self) {
        if let Some((dom, frame)) = self.held.writable.pop() {
            self.world.drop_writable(dom, frame);
        }
        if let Some((dom, frame)) = self.held.descriptors.pop() {
            self.world.drop_descriptors(dom, frame);
        }
    }

    fn move_frame(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let taken = match self.random.below(4) {
            0 => self.world.release(frame, dom),
            1 => self.world.reclaim(frame, dom),
            _ => return self.give(frame),
        };
        if taken.is_ok() {
            self.done.moves += 1;
        }
        self.give(frame);
    }

    fn give(&mut self, frame: Mfn) {
        let to = self.dom();
        let given = if self.random.one_in(6) {
            self.world.share(frame, to)
        } else {
            self.world.assign(frame, to)
        };
        if given.is_ok() {
            self.world.platform().clear(frame);
        }
    }

    /// A domain dies, and its frames go to others.
    fn death(&mut self) {
        let dom = self.dom();
        for cpu in 0..self.setup.cpus {
            let running = self.world.platform().cpus[cpu].lock().unwrap().running;
            if running.is_some_and(|(running, _)| running == dom) {
                self.unload(cpu);
            }
        }
        while !self.held.writable.is_empty() || !self.held.descriptors.is_empty() {
            self.let_go();
        }
        let mut progress = Teardown::new();
        while let Err(stop) = self.world.relinquish(dom, &mut progress, &mut self.budget()) {
            assert_eq!(stop, Stop::Preempted);
            self.check();
        }
        self.check();
        let mut from = mfn(0);
        while let Some(frame) = self.world.next_owned(dom, from) {
            from = mfn(frame.get() + 1);
            if let Err(refusal) = self.world.reclaim(frame, dom) {
                // Another domain has it mapped: it stays until that is over.
                assert!(self.is_mapped_by_another(frame, dom), "{refusal}");
                self.done.kept += 1;
                continue;
            }
            self.check();
            let to = self.dom();
            self.world.assign(frame, to).unwrap();
            self.world.platform().clear(frame);
        }
        self.done.deaths += 1;
    }

    fn is_mapped_by_another(&self, frame: Mfn, dom: DomId) -> bool {
        let mut found = false;
        self.world.find_mappings(frame, dom, Which::All, Bounds::default(), &mut |mapping| {
            found = self.world.owner(mapping.table) != Some(dom);
            if found {
                core::ops::ControlFlow::Break(())
            } else {
                core::ops::ControlFlow::Continue(())
            }
        });
        found
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
            920..960 => self.hold(),
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
        driver.done.told = machine.told.lock().unwrap().len() as u64;
        driver.done.cache_flushes =
            machine.cache_flushes.load(std::sync::atomic::Ordering::SeqCst) as u64;
        total.add(&driver.done);
    }
    if operations() >= 10_000 {
        total.assert_all_happened(domains, setup.cache);
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.pins += other.pins;
        self.refused_pins += other.refused_pins;
        self.predicted += other.predicted;
        self.updates += other.updates;
        self.plain += other.plain;
        self.refused_updates += other.refused_updates;
        self.preempted += other.preempted;
        self.roots += other.roots;
        self.deaths += other.deaths;
        self.moves += other.moves;
        self.cleared += other.cleared;
        self.granted += other.granted;
        self.refused_grants += other.refused_grants;
        self.ungranted += other.ungranted;
        self.kept += other.kept;
        self.unusual += other.unusual;
        self.refused_caching += other.refused_caching;
        self.told += other.told;
        self.cache_flushes += other.cache_flushes;
    }

    fn assert_all_happened(&self, domains: u16, cache: CachePolicy) {
        std::println!("{self:?}");
        let Tally { pins, refused_pins, predicted, updates, plain, .. } = self;
        let Tally { refused_updates, preempted, roots, deaths, moves, cleared, .. } = self;
        for count in [pins, refused_pins, updates, plain, refused_updates] {
            assert!(*count > 100, "{self:?}");
        }
        if domains > 1 {
            for count in [self.granted, self.refused_grants, self.ungranted, self.kept] {
                assert!(count > 0, "{self:?}");
            }
        }
        let Tally { unusual, refused_caching, cache_flushes, .. } = self;
        for count in [preempted, roots, deaths, moves, cleared, unusual, refused_caching] {
            assert!(*count > 0, "{self:?}");
        }
        assert!(*cache_flushes > 0, "{self:?}");
        let (predicted, told) = (*predicted > 100, self.told > 0);
        match cache {
            CachePolicy::Strict => assert!(predicted && !told, "{self:?}"),
            CachePolicy::Report => assert!(told, "{self:?}"),
        }
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
fn random_guests_whose_mixing_is_told_of() {
    drive(5, Setup { frames: 40, cache: CachePolicy::Report, ..Setup::default() }, 2);
}

#[test]
fn random_guest_alone_in_a_crowd_of_frames() {
    drive(4, Setup { frames: 24, cpus: 3, ..Setup::default() }, 1);
}
