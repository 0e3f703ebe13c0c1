//! Giving frames and taking them back (`INV-OWNER`).

use super::*;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn frames_go_to_one_domain_at_a_time() {
    let world = world(Setup::default());
    let frame = mfn(7);
    assert_eq!(world.owner(frame), None);
    world.assign(frame, A).unwrap();
    assert_eq!(world.owner(frame), Some(A));
    assert_eq!(world.assign(frame, B).unwrap_err().cause, Cause::NotFree);
    assert_eq!(world.release(frame, B).unwrap_err().cause, Cause::NotOwned);
    world.release(frame, A).unwrap();
    assert_eq!(world.release(frame, A).unwrap_err().cause, Cause::NotOwned);
    world.assign(frame, B).unwrap();
    assert_eq!(world.owner(frame), Some(B));
    assert_eq!(world.assign(mfn(99), A).unwrap_err().cause, Cause::NoSuchFrame);
    assert_eq!(world.release(mfn(u64::MAX), A).unwrap_err().cause, Cause::NoSuchFrame);
    // Never given at boot: not free, but no RAM.
    assert_eq!(world.assign(mfn(0), A).unwrap_err().cause, Cause::NotFree);
    assert!(!world.give_ram(frame));
}

#[test]
fn a_frame_in_use_is_not_taken_back() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    for frame in [L4, L3, L2, L1, PAGE] {
        let refused = world.release(frame, A).unwrap_err();
        assert_eq!((refused.cause, refused.frame), (Cause::Busy, frame));
    }
    update(world, L1, 0, 0).unwrap();
    assert_eq!(world.release(PAGE, A).unwrap_err().cause, Cause::Busy);
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    unpin(world, L4);
    for frame in [L4, L3, L2, L1] {
        world.release(frame, A).unwrap();
    }
    assert_sound(world, &[]);
}

#[test]
fn a_half_made_table_is_in_use() {
    let world = fresh();
    tree(world);
    assert_eq!(world.pin(A, Level::L1, L1, &mut Budget::new(1)), Err(Stop::Preempted));
    assert_eq!(world.release(L1, A).unwrap_err().cause, Cause::Busy);
    assert_eq!(world.release(PAGE, A).unwrap_err().cause, Cause::Busy);
    assert_sound(world, &[]);
}

#[test]
fn a_shared_frame_is_mapped_but_never_typed() {
    let world = fresh();
    let shared = mfn(30);
    world.share(shared, A).unwrap();
    assert_eq!(world.owner(shared), Some(A));
    world.platform().set(L1, 0, rw(shared));
    world.platform().set(L1, 1, ro(shared));
    pin(world, Level::L1, L1).unwrap();
    assert_sound(world, &[]);
    assert_eq!(cause(pin(world, Level::L1, shared)), Cause::SharedFrame);
    assert_eq!(world.take_descriptors(A, shared).unwrap_err().cause, Cause::SharedFrame);
    assert_eq!(world.reclaim(shared, A).unwrap_err().cause, Cause::Busy);
    update(world, L1, 0, 0).unwrap();
    assert_eq!(world.reclaim(shared, A).unwrap_err().cause, Cause::Busy);
    update(world, L1, 1, 0).unwrap();
    assert_eq!(cause(pin(world, Level::L1, shared)), Cause::SharedFrame);
    // What the hypervisor uses is not the domain's to give back, mapped or not.
    assert_eq!(world.release(shared, A).unwrap_err().cause, Cause::SharedFrame);
    assert_eq!(world.release(shared, B).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.reclaim(shared, B).unwrap_err().cause, Cause::NotOwned);
    world.reclaim(shared, A).unwrap();
    assert_eq!(world.owner(shared), None);
    world.assign(shared, A).unwrap();
    pin(world, Level::L1, shared).unwrap();
    assert_sound(world, &[]);
}

#[test]
fn a_frame_is_flushed_before_another_domain_gets_it() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    world.take_root(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    let root = [held(L4, Held::Root)];
    // Read through a read-only mapping: no type is involved.
    update(world, L1, 0, 0).unwrap();
    machine.touch(0, Vaddr::new(0x1000));
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    assert_sound(world, &root);
    let before = machine.flushes.load(SeqCst);
    // Back to the same domain: nothing that it could not see before.
    world.assign(PAGE, A).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), before);
    world.release(PAGE, A).unwrap();
    world.assign(PAGE, B).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), before + 1);
    assert_sound(world, &root);
}

#[test]
fn a_frame_that_comes_back_still_owes_its_flush() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    world.take_root(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    machine.touch(0, Vaddr::new(0));
    update(world, L1, 0, 0).unwrap();
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    world.assign(PAGE, A).unwrap();
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), 1);
    assert_sound(world, &[held(L4, Held::Root)]);
}

#[test]
fn owned_frames_are_enumerated() {
    let world = fresh();
    let mut found = Vec::new();
    let mut from = mfn(0);
    while let Some(frame) = world.next_owned(B, from) {
        found.push(frame.get());
        from = mfn(frame.get() + 1);
    }
    assert_eq!(found, (16..24).collect::<Vec<_>>());
    assert_eq!(world.next_owned(B, mfn(u64::MAX)), None);
}
