//! Attacks with stale translations, one at a time. The machine does the writing ([`machine`]); each
//! test makes the hypervisor take a frame that a CPU still remembers, in another way.

use super::guest::address;
use super::*;
use pinfold_validator::{HypervisorFrames, Purpose};
use std::sync::atomic::Ordering::SeqCst;

const ATTACKER: DomId = DomId::new(1);
const VICTIM: DomId = DomId::new(2);

/// A world in which every free frame but `spare` is one that the attacker gave back, and still
/// remembers as writable, on two CPUs.
fn stale_world(spare: usize) -> (World, Guest, Guest) {
    let frames = 16;
    let world = World::new(1 + 4 + frames + 4 + spare);
    let mut attacker = Guest::build(&world, ATTACKER, frames);
    let victim = Guest::build(&world, VICTIM, 0);
    attacker.run_on(&world, 0);
    attacker.run_on(&world, 1);
    victim.run_on(&world, 2);
    for (slot, frame) in attacker.frames.clone().into_iter().enumerate() {
        attacker.map(&world, slot, frame, true).unwrap();
        world.machine.touch(0, address(slot));
        world.machine.touch(1, address(slot));
        attacker.clear(&world, slot);
        assert!(attacker.give_back(&world, frame));
        assert!(world.machine.remembers(frame));
    }
    world.machine.attack();
    assert!(world.machine.hits.free.load(SeqCst) > 0);
    (world, attacker, victim)
}

/// All is sound, and every word that the hypervisor took is what it was made.
fn assert_untouched(world: &World, own: &[HypervisorFrames]) {
    world.machine.attack();
    for frames in own {
        for number in frames.first().get()..frames.first().get() + frames.count() {
            world.machine.assert_zero(Mfn::new(number));
        }
    }
}

#[test]
fn private_books_of_the_grant_table() {
    let (world, attacker, victim) = stale_world(0);
    attacker.grow_grant_table(&world, 2).unwrap();
    world.machine.attack();
    victim.grow_grant_table(&world, 2).unwrap();
    world.machine.attack();
    world.audit([&attacker, &victim].into_iter());
}

#[test]
fn frames_that_the_hypervisor_keeps() {
    let (world, ..) = stale_world(0);
    let own: Vec<_> = (0..8)
        .map(|_| world.allocator.alloc_hypervisor_frames(0, Purpose::Heap).unwrap())
        .collect();
    assert_untouched(&world, &own);
    own.into_iter().for_each(|frames| world.allocator.free_hypervisor_frames(frames));
}

#[test]
fn frames_in_one_piece() {
    let (world, ..) = stale_world(0);
    let own = world.allocator.alloc_hypervisor_frames(2, Purpose::AuditScratch).unwrap();
    assert_untouched(&world, &[own]);
}

#[test]
fn frames_that_another_domain_gets() {
    let (world, ..) = stale_world(0);
    for order in [0, 1, 2] {
        let first = world.allocator.alloc_domain_frames(VICTIM, order).unwrap();
        world.machine.attack();
        for number in first.get()..first.get() + (1 << order) {
            world.machine.assert_zero(Mfn::new(number));
        }
    }
}

#[test]
fn frames_that_come_back() {
    let (world, ..) = stale_world(0);
    let frame = world.allocator.alloc_domain_frames(ATTACKER, 0).unwrap();
    assert!(!world.machine.remembers(frame));
    world.machine.assert_zero(frame);
}

#[test]
fn frames_that_were_reserved_first() {
    let (world, ..) = stale_world(0);
    let reserved = world.allocator.reserve(1).unwrap();
    world.machine.attack();
    let first = reserved.assign(VICTIM);
    world.machine.attack();
    world.machine.assert_zero(first);
    let free = world.allocator.free_count();
    drop(world.allocator.reserve(2));
    assert_eq!(world.allocator.free_count(), free);
}

#[test]
fn frames_that_are_transferred() {
    let world = World::new(32);
    let attacker = Guest::build(&world, ATTACKER, 1);
    let victim = Guest::build(&world, VICTIM, 0);
    let frame = attacker.frames[0];
    attacker.run_on(&world, 0);
    attacker.map(&world, 0, frame, true).unwrap();
    world.machine.touch(0, address(0));
    attacker.clear(&world, 0);
    victim.grow_grant_table(&world, 1).unwrap();
    let accept = u64::from(pinfold_abi::grant::EntryFlags::ACCEPT_TRANSFER.bits());
    let entry = accept | u64::from(ATTACKER.get()) << 16;
    world.machine.set(victim.grants.frame(0).unwrap(), 7, entry);
    let passed = victim.grants.transfer(7, ATTACKER, || {
        world.validator.transfer(frame, ATTACKER, VICTIM).unwrap();
        Ok(frame)
    });
    assert_eq!(passed, Ok(()));
    assert_eq!(world.validator.owner(frame), Some(VICTIM));
    world.machine.attack();
    world.audit([&attacker, &victim].into_iter());
}

/// A borrower overwrites the entry of a granted frame, and keeps its translation. The granter may
/// believe the books only: they say that the frame is in use. If it gives the frame away all the
/// same, nobody remembers it when somebody gets it.
#[test]
fn granted_frames_that_are_given_away() {
    let world = World::new(40);
    let mut granter = Guest::build(&world, VICTIM, 1);
    let mut borrower = Guest::build(&world, ATTACKER, 0);
    granter.grow_grant_table(&world, 1).unwrap();
    let frame = granter.frames[0];
    granter.grant(&world, 5, ATTACKER, frame);
    borrower.run_on(&world, 1);
    assert_eq!(borrower.map_grant(&world, 3, VICTIM, 5), Ok(frame));
    world.machine.touch(1, address(3));
    borrower.clear(&world, 3);
    assert!(world.machine.remembers(frame));
    assert!(granter.give_back(&world, frame));
    let taken = world.allocator.alloc_hypervisor_frames(0, Purpose::Heap).unwrap();
    world.machine.attack();
    world.allocator.free_hypervisor_frames(taken);
    let mut guests = Vec::new();
    while world.allocator.free_count() > 0 {
        guests.push(world.allocator.alloc_domain_frames(DomId::new(3), 0).unwrap());
        world.machine.attack();
    }
    assert!(guests.contains(&frame));
}

/// Who finds the mark in the granter's entry gone has the frame to itself.
#[test]
fn granted_frames_that_are_unmapped() {
    let world = World::new(40);
    let granter = Guest::build(&world, VICTIM, 1);
    let mut borrower = Guest::build(&world, ATTACKER, 0);
    granter.grow_grant_table(&world, 1).unwrap();
    let frame = granter.frames[0];
    granter.grant(&world, 5, ATTACKER, frame);
    let in_use = || world.machine.get(granter.grants.frame(0).unwrap(), 5) & 0x18 != 0;
    borrower.run_on(&world, 1);
    borrower.map_grant(&world, 3, VICTIM, 5).unwrap();
    world.machine.touch(1, address(3));
    assert!(in_use() && world.machine.remembers(frame));
    borrower.unmap_grant(&world, 0).unwrap();
    assert!(!in_use() && !world.machine.remembers(frame));
}

/// Frames of a domain that ended come clean, though its CPUs forget nothing until they are asked.
#[test]
fn frames_of_a_dead_domain() {
    let (world, attacker, victim) = stale_world(0);
    let summary = attacker.end(&world, || world.machine.attack());
    assert_eq!((summary.kept, summary.stuck), (0, 0));
    while let Some(frame) = world.allocator.alloc_domain_frames(VICTIM, 0) {
        world.machine.assert_zero(frame);
        world.machine.attack();
    }
    world.audit([&victim].into_iter());
}
