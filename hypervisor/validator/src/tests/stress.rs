//! Many threads at once, on the same frames; audited when they rest.

use super::random::Random;
use super::*;
use pinfold_abi::mmu::{EntryFlags, MemoryType};
use std::sync::Barrier;
use std::thread;

const FRAMES: u64 = 24;

/// One CPU's worth of random operations of one domain. No TLBs here: the models look at those.
fn run(world: &'static World, dom: DomId, seed: u64, steps: u64) {
    let mut random = Random::new(seed);
    for _ in 0..steps {
        let frame = mfn(1 + random.below(FRAMES - 1));
        let target = mfn(1 + random.below(FRAMES - 1));
        let mut budget =
            Budget::new(if random.one_in(4) { 1 + random.below(600) as u32 } else { 100_000 });
        // Level by number, so that trees match more often than not.
        let level = Level::from_number(1 + frame.get() % 4).unwrap();
        let index = slot(random.below(4) as usize * 170);
        match random.below(12) {
            0..5 => {
                let flags = if random.one_in(3) { P } else { P | RW };
                let memory = match random.below(8) {
                    0 => MemoryType::Uncached,
                    1 => MemoryType::WriteCombining,
                    _ => MemoryType::WriteBack,
                };
                let flags = flags | memory.flags().bits();
                let present = target.address() | flags;
                let update = Update {
                    dom,
                    table_owner: dom,
                    target_owner: dom,
                    table: frame,
                    index,
                    value: if random.one_in(3) { 0 } else { present },
                    preserve_ad: random.one_in(2),
                };
                let _ = world.update(update, &mut budget);
            }
            5 | 6 => drop(world.pin(dom, level, frame, &mut budget)),
            7 => drop(world.unpin(dom, frame, &mut budget)),
            8 => {
                if world.get_root_ref(dom, frame, &mut budget).is_ok() {
                    world.put_root_ref(dom, frame, &mut budget);
                } else if world.get_writable_ref(dom, frame).is_ok() {
                    world.put_writable_ref(dom, frame);
                } else if world.get_descriptor_ref(dom, frame).is_ok() {
                    world.put_descriptor_ref(dom, frame);
                }
            }
            9 => {
                let mut flags = EntryFlags::USER;
                flags.set(EntryFlags::WRITABLE, random.one_in(2));
                let owner = if random.one_in(2) { A } else { B };
                let mapping =
                    GrantMapping { dom, table: frame, index, owner, frame: target, flags };
                let _ = world.map_granted(&mapping, &mut budget);
            }
            10 => {
                let writable = random.one_in(2);
                let replacement = if random.one_in(2) { 0 } else { target.address() | P };
                let (table, frame) = (frame, target);
                let unmapping = GrantUnmapping { dom, table, index, frame, writable, replacement };
                let _ = world.unmap_granted(&unmapping, &mut budget, &mut FlushDebt::none());
            }
            _ => {
                if world.release(frame, dom).is_ok() {
                    // To itself or the other domain.
                    let to = if random.one_in(2) { A } else { B };
                    // A thread of another domain can't take it in between: it's free.
                    let _ = world.assign(frame, to);
                }
            }
        }
    }
}

fn stress(domains: &[DomId], cache: CachePolicy, rounds: u64, steps: u64) {
    let world = world(Setup { frames: FRAMES as usize, cpus: 4, cache, ..Setup::default() });
    for number in 1..FRAMES {
        let dom = domains[number as usize % domains.len()];
        world.assign(mfn(number), dom).unwrap();
    }
    // Two threads of a domain must be at it for the interesting races.
    let doms: Vec<DomId> = domains.iter().flat_map(|&dom| [dom, dom]).collect();
    let barrier = Barrier::new(doms.len() + 1);
    thread::scope(|scope| {
        for (number, &dom) in doms.iter().enumerate() {
            let barrier = &barrier;
            scope.spawn(move || {
                for round in 0..rounds {
                    barrier.wait();
                    run(world, dom, round << 8 | number as u64, steps);
                    barrier.wait();
                }
            });
        }
        for _ in 0..rounds {
            barrier.wait();
            barrier.wait();
            // The others wait at the next round's start: all is at rest.
            assert_sound(world, &[]);
        }
    });
    for &dom in domains {
        let mut progress = RelinquishProgress::new();
        world.relinquish(dom, &mut progress, &mut Budget::unlimited()).unwrap();
    }
    assert_sound(world, &[]);
    for number in 1..FRAMES {
        if let Some(owner) = world.owner(mfn(number)) {
            world.release(mfn(number), owner).unwrap();
        }
    }
}

const ROUNDS: u64 = if cfg!(miri) { 2 } else { 300 };
const STEPS: u64 = if cfg!(miri) { 25 } else { 400 };

#[test]
fn cpus_of_one_domain_race() {
    stress(&[A], CachePolicy::Strict, ROUNDS, STEPS);
}

#[test]
fn cpus_of_two_domains_race() {
    stress(&[A, B], CachePolicy::Strict, ROUNDS, STEPS);
}

#[test]
fn cpus_race_with_policy_report() {
    stress(&[A, B], CachePolicy::Report, ROUNDS, STEPS);
}

#[test]
fn all_cpus_change_the_same_entry_at_once() {
    // Whoever exchanged an entry drops what that one held.
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..if cfg!(miri) { 50 } else { 20_000 } {
                    let target = mfn(5 + random.below(3));
                    let value = match random.below(3) {
                        0 => 0,
                        1 => ro(target),
                        _ => rw(target),
                    };
                    loop {
                        match update(world, L1, 0, value) {
                            Ok(_) => break,
                            Err(Error::Preempted) => {}
                            Err(Error::Refused(refusal)) => panic!("{refusal}"),
                        }
                    }
                }
            });
        }
    });
    assert_sound(world, &[]);
}
