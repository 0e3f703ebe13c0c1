//! Canaries: that they are planted where a CPU remembers the frame, and that a write to one is told.

use super::guest::address;
use super::*;
use crate::canaries::{BrokenCanary, MAX_CANARIES};
use std::sync::atomic::Ordering::SeqCst;

type Canaries = crate::Canaries<&'static Machine, spin::Spin>;

const GUEST: DomId = DomId::new(1);

/// What a round of looking tells.
fn reported(canaries: &Canaries) -> Vec<BrokenCanary> {
    let mut reported = Vec::new();
    canaries.check_all(&mut |broken| reported.push(broken));
    reported
}

/// A guest that gives frames back and remembers all of them, some of which become canaries.
fn planted(frames: usize) -> (World, Guest, Canaries, Vec<Mfn>) {
    let world = World::new(1 + 4 + frames + 8);
    let mut guest = Guest::build(&world, GUEST, frames);
    let canaries = Canaries::new(world.machine);
    guest.run_on(&world, 0);
    let mut found = Vec::new();
    for frame in guest.frames.clone() {
        guest.map(&world, 0, frame, true).unwrap();
        world.machine.touch(0, address(0));
        guest.clear(&world, 0);
        assert!(guest.give_back(&world, frame));
        let mut tell = |broken| panic!("{broken:?}");
        canaries.on_release(world.allocator, frame, &mut tell);
        if world.validator.owner(frame) == Some(DomId::HYPERVISOR) {
            found.push(frame);
        }
        world.machine.attack();
    }
    (world, guest, canaries, found)
}

#[test]
fn no_stale_translation_reaches_one() {
    let (world, guest, canaries, found) = planted(40);
    assert_eq!(found.len() as u64, canaries.planted());
    assert!(found.len() >= 8, "{found:?}");
    // They were written through while they were free, and never since.
    assert!(world.machine.hits.free.load(SeqCst) > 0);
    assert_eq!(reported(&canaries), []);
    assert_eq!(canaries.broken(), 0);
    world.audit([&guest].into_iter());
}

#[test]
fn a_write_is_told_once() {
    let (world, _guest, canaries, found) = planted(40);
    let victim = found[3];
    let before = world.machine.get(victim, 17);
    // Two words of one frame: one report, of the first.
    world.machine.set(victim, 17, POISON);
    world.machine.set(victim, 400, POISON);
    let broken = BrokenCanary { frame: victim, offset: 17 * 8, expected: before, seen: POISON };
    assert_eq!(reported(&canaries), [broken]);
    assert_eq!(reported(&canaries), []);
    assert_eq!(canaries.broken(), 1);
    world.machine.set(found[0], 511, 0);
    assert_eq!(reported(&canaries).len(), 1);
    assert_eq!(canaries.broken(), 2);
}

#[test]
fn the_oldest_is_looked_at_and_freed() {
    let frames = (MAX_CANARIES + 4) * 5;
    let world = World::new(1 + 4 + frames + 8);
    let mut guest = Guest::build(&world, GUEST, frames);
    let canaries = Canaries::new(world.machine);
    let mut reported = Vec::new();
    let free = world.allocator.free_count();
    for frame in guest.frames.clone() {
        assert!(guest.give_back(&world, frame));
        canaries.on_release(world.allocator, frame, &mut |broken| reported.push(broken));
    }
    assert_eq!(canaries.planted(), MAX_CANARIES as u64 + 4);
    assert_eq!(world.allocator.free_count(), free + frames as u64 - MAX_CANARIES as u64);
    assert_eq!(reported, []);
    world.audit([&guest].into_iter());
}
