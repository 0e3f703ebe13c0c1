//! Guests that do what they like with frames, and never flush.

use super::guest::{SLOTS, address};
use super::*;
use crate::grant::mapping::MapError;
use pinfold_validator::{Budget, Error, HypervisorFrames, Level, Purpose};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::println;
use std::sync::atomic::Ordering::SeqCst;

const FRAMES: usize = 96;
const GUESTS: usize = 3;
const STEPS: usize = 6_000;

/// Random choices that a seed repeats.
struct Random(Xoshiro256PlusPlus);

impl Random {
    fn new(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }
}

/// What went well, so that a run in which nothing does is seen.
#[derive(Debug, Default)]
struct Done {
    mapped: u64,
    given_back: u64,
    allocated: u64,
    grown: u64,
    grant_mapped: u64,
    grant_unmapped: u64,
    transferred: u64,
    pinned: u64,
    own: u64,
    ended: u64,
}

struct Driver {
    world: World,
    guests: Vec<Guest>,
    own: Vec<HypervisorFrames>,
    next: u16,
    random: Random,
    done: Done,
}

impl Driver {
    fn new(seed: u64, done: Done) -> Driver {
        let world = World::new(FRAMES);
        let mut driver = Driver {
            world,
            guests: Vec::new(),
            own: Vec::new(),
            next: 1,
            random: Random::new(seed),
            done,
        };
        while driver.guests.len() < GUESTS {
            driver.build();
        }
        driver
    }

    fn build(&mut self) {
        let guest = Guest::build(&self.world, DomId::new(self.next), 6);
        self.next += 1;
        for cpu in 0..CPUS {
            if self.world.machine.running(cpu).is_none() {
                guest.run_on(&self.world, cpu);
            }
        }
        self.guests.push(guest);
    }

    /// A frame that the guest has, or had, or never had.
    fn frame(&mut self, which: usize) -> Mfn {
        let frames = &self.guests[which].frames;
        if frames.is_empty() || self.random.below(8) == 0 {
            return Mfn::new(self.random.below(FRAMES + 1) as u64);
        }
        frames[self.random.below(frames.len())]
    }

    fn step(&mut self) {
        let which = self.random.below(self.guests.len());
        let slot = self.random.below(SLOTS);
        match self.random.below(40) {
            0..=9 => self.map(which, slot),
            10..=13 => self.guests[which].clear(&self.world, slot),
            14..=18 => self.give_back(which),
            19..=22 => self.allocate(which),
            23 => self.grow(which),
            24..=25 => self.lend(which, slot),
            26 => self.unlend(which),
            27 => self.transfer(which),
            28..=30 => self.pin(which),
            31..=33 => self.hypervisor(),
            34..=35 => self.reschedule(which),
            36 => {
                if self.random.below(10) == 0 {
                    self.end(which);
                }
            }
            _ => {
                let cpu = self.random.below(CPUS);
                self.world.machine.touch(cpu, address(slot));
            }
        }
        self.world.machine.attack();
    }

    fn map(&mut self, which: usize, slot: usize) {
        let frame = self.frame(which);
        let writable = self.random.below(4) != 0;
        if self.guests[which].map(&self.world, slot, frame, writable).is_ok() {
            self.done.mapped += 1;
        }
        for cpu in 0..CPUS {
            self.world.machine.touch(cpu, address(slot));
        }
    }

    fn give_back(&mut self, which: usize) {
        let frame = self.frame(which);
        let guest = &mut self.guests[which];
        guest.clear_all_of(&self.world, frame);
        self.done.given_back += u64::from(guest.give_back(&self.world, frame));
    }

    fn allocate(&mut self, which: usize) {
        let order = [0, 0, 0, 1, 2][self.random.below(5)];
        let guest = &mut self.guests[which];
        if guest.frames.len() > 16 {
            return;
        }
        let Some(first) = self.world.allocator.alloc_domain_frames(guest.dom, order) else {
            return;
        };
        for number in first.get()..first.get() + (1 << order) {
            self.world.machine.assert_zero(Mfn::new(number));
            guest.frames.push(Mfn::new(number));
        }
        self.done.allocated += 1;
    }

    fn grow(&mut self, which: usize) {
        let guest = &self.guests[which];
        let count = guest.grants.frame_count() + 1;
        if count <= 2 && guest.grow_grant_table(&self.world, count).is_ok() {
            self.done.grown += 1;
        }
    }

    fn lend(&mut self, which: usize, slot: usize) {
        let to = self.random.below(self.guests.len());
        let frame = self.frame(which);
        let granter = &self.guests[which];
        if granter.grants.frame_count() == 0 {
            return;
        }
        let reference = self.random.below(8);
        granter.grant(&self.world, reference, self.guests[to].dom, frame);
        let dom = granter.dom;
        match self.guests[to].map_grant(&self.world, slot, dom, reference as u32) {
            Ok(_) => self.done.grant_mapped += 1,
            Err(MapError::Preempted) => panic!("nobody else is at work"),
            Err(_) => {}
        }
        (0..CPUS).for_each(|cpu| self.world.machine.touch(cpu, address(slot)));
    }

    fn unlend(&mut self, which: usize) {
        let handles = self.guests[which].handles.len();
        if handles == 0 {
            return;
        }
        let handle = self.random.below(handles);
        if self.guests[which].unmap_grant(&self.world, handle).is_ok() {
            self.done.grant_unmapped += 1;
        }
    }

    /// Passes a frame on: the validator's part of it, without the entry that accepts it
    /// (`attacks::frames_that_are_transferred` has both).
    fn transfer(&mut self, which: usize) {
        let to = self.random.below(self.guests.len());
        let frame = self.frame(which);
        let (from_dom, to_dom) = (self.guests[which].dom, self.guests[to].dom);
        self.guests[which].clear_all_of(&self.world, frame);
        if self.world.validator.transfer(frame, from_dom, to_dom).is_ok() {
            self.guests[which].frames.retain(|&own| own != frame);
            self.guests[to].frames.push(frame);
            self.done.transferred += 1;
        }
    }

    /// A frame becomes an L1 table for a while: of zeros, since it is plain memory that may hold
    /// anything.
    fn pin(&mut self, which: usize) {
        let frame = self.frame(which);
        let guest = &self.guests[which];
        guest.clear_all_of(&self.world, frame);
        let budget = &mut Budget::new(u32::MAX);
        match self.world.validator.pin(guest.dom, Level::L1, frame, budget) {
            Ok(()) => {
                self.done.pinned += 1;
                self.world.machine.attack();
                self.world.validator.unpin(guest.dom, frame, budget).unwrap();
            }
            Err(Error::Preempted) => panic!("the budget is large"),
            Err(Error::Refused(_)) => {}
        }
    }

    fn hypervisor(&mut self) {
        let purpose = Purpose::ALL[self.random.below(Purpose::ALL.len())];
        if self.own.len() > 3 {
            let frames = self.own.swap_remove(0);
            self.world.allocator.free_hypervisor_frames(frames);
        } else if let Some(frames) =
            self.world.allocator.alloc_hypervisor_frames(self.random.below(2) as u32, purpose)
        {
            self.world.machine.assert_zero(frames.first());
            self.own.push(frames);
            self.done.own += 1;
        }
    }

    fn reschedule(&mut self, which: usize) {
        let cpu = self.random.below(CPUS);
        if self.random.below(3) == 0 {
            self.world.machine.load(cpu, None);
        } else {
            self.guests[which].run_on(&self.world, cpu);
        }
    }

    fn end(&mut self, which: usize) {
        let guest = self.guests.swap_remove(which);
        let machine = self.world.machine;
        let summary = guest.end(&self.world, || machine.attack());
        assert_eq!(summary.stuck, 0);
        self.done.ended += 1;
        if self.world.allocator.free_count() > 16 {
            self.build();
        }
        if self.guests.is_empty() {
            self.own.drain(..).for_each(|own| self.world.allocator.free_hypervisor_frames(own));
            self.build();
        }
    }
}

#[test]
fn no_stale_store_lands_in_a_frame_of_another_domain() {
    let mut hits = [0u64; 4];
    let mut done = Done::default();
    for seed in 1..=12 {
        let mut driver = Driver::new(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed), done);
        for step in 0..STEPS {
            driver.step();
            if step % 64 == 0 {
                driver.world.audit(driver.guests.iter());
            }
        }
        while let Some(guest) = driver.guests.pop() {
            guest.end(&driver.world, || {});
        }
        driver.own.drain(..).for_each(|own| driver.world.allocator.free_hypervisor_frames(own));
        driver.world.audit([].into_iter());
        assert_eq!(driver.world.allocator.free_count(), FRAMES as u64 - 1, "seed {seed}");
        let counts = &driver.world.machine.hits;
        for (sum, count) in
            hits.iter_mut().zip([&counts.free, &counts.taken, &counts.stale, &counts.validating])
        {
            *sum += count.load(SeqCst);
        }
        done = driver.done;
    }
    println!("stores to free, taken, idle, validating frames: {hits:?}; {done:?}");
    let Done { mapped, given_back, allocated, grown, grant_mapped, .. } = done;
    let Done { grant_unmapped, transferred, pinned, own, ended, .. } = done;
    for count in
        [mapped, given_back, allocated, grant_mapped, grant_unmapped, transferred, pinned, own]
    {
        assert!(count > 100, "{done:?}");
    }
    assert!(grown > 10 && ended > 10, "{done:?}");
    // Dangerous situations: without these it proves nothing. None while a frame is cleared.
    let [free, taken, stale, validating] = hits;
    assert!(free > 10_000 && stale > 10_000 && validating > 100, "{hits:?}");
    assert_eq!(taken, 0, "a frame was cleared that a CPU remembered");
}
