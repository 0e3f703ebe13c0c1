//! Giving frames and taking them back (`INV-OWNER`).

use super::*;
use std::sync::atomic::Ordering::SeqCst;

/// A frame that is free in [`fresh`].
const FREE: Mfn = Mfn::new(24);

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
    assert!(!world.add_ram_frame(frame));
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
fn a_partial_table_cannot_be_released() {
    let world = fresh();
    tree(world);
    assert_eq!(world.pin(A, Level::L1, L1, &mut Budget::new(1)), Err(Error::Preempted));
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
    assert_eq!(world.get_descriptor_ref(A, shared).unwrap_err().cause, Cause::SharedFrame);
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
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    let root = [held(L4, RefKind::Root)];
    // Read through a read-only mapping: no type is involved.
    update(world, L1, 0, 0).unwrap();
    machine.touch(0, page(1));
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    assert_sound(world, &root);
    let before = machine.flushes.load(SeqCst);
    world.assign(PAGE, B).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), before + 1);
    assert_sound(world, &root);
    world.release(PAGE, B).unwrap();
    // Domain B never ran.
    world.assign(PAGE, A).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), before + 1);
}

/// Domain A runs on CPU 0, maps [`PAGE`] writable and uses it, clears the entry without a flush,
/// and gives the page back.
fn released_with_a_stale_translation() -> &'static World {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    machine.touch(0, Vaddr::new(0));
    update(world, L1, 0, 0).unwrap();
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    assert!(remembers(world, 0, PAGE));
    world
}

fn remembers(world: &World, cpu: usize, frame: Mfn) -> bool {
    world.platform().cpus[cpu].lock().unwrap().leaves.iter().any(|leaf| leaf.frame == frame)
}

// That the flush comes before the frame is cleared, the machine checks (`clear_frame`).

#[test]
fn a_frame_that_the_hypervisor_keeps_is_flushed() {
    let world = released_with_a_stale_translation();
    let frames = world.clean_free_frames(PAGE, 1).unwrap();
    assert!(!remembers(world, 0, PAGE));
    let own = world.assign_to_hypervisor(frames, Purpose::GrantUses);
    assert_eq!(world.owner(own.first()), Some(DomId::HYPERVISOR));
    assert_eq!(world.info(PAGE).unwrap().purpose(), Some(Purpose::GrantUses));
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

#[test]
fn a_frame_that_the_hypervisor_shares_is_flushed() {
    let world = released_with_a_stale_translation();
    world.share(PAGE, B).unwrap();
    assert!(!remembers(world, 0, PAGE));
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

#[test]
fn a_frame_that_goes_back_to_its_domain_is_flushed() {
    let world = released_with_a_stale_translation();
    world.platform().set(PAGE, 5, 5);
    world.assign(PAGE, A).unwrap();
    assert!(!remembers(world, 0, PAGE));
    assert_eq!(world.platform().get(PAGE, 5), 0);
}

#[test]
fn a_transferred_frame_is_flushed_and_keeps_its_contents() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    machine.touch(0, Vaddr::new(0));
    machine.set(PAGE, 5, 5);
    assert_eq!(world.transfer(PAGE, A, B).unwrap_err().cause, Cause::Busy);
    update(world, L1, 0, 0).unwrap();
    update(world, L1, 1, 0).unwrap();
    assert_eq!(world.transfer(PAGE, B, A).unwrap_err().cause, Cause::NotOwned);
    world.transfer(PAGE, A, B).unwrap();
    assert!(!remembers(world, 0, PAGE));
    assert_eq!((world.owner(PAGE), machine.get(PAGE, 5)), (Some(B), 5));
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

/// A table of the hypervisor's own (of the per-domain slot) may be in the caches of page walks.
#[test]
fn a_frame_that_the_hypervisor_frees_is_flushed_everywhere() {
    let world = fresh();
    let own = world
        .assign_to_hypervisor(world.clean_free_frames(FREE, 2).unwrap(), Purpose::PerDomainTables);
    assert_eq!(own.count(), 2);
    world.free_hypervisor_frames(own);
    let before = world.platform().flushes.load(SeqCst);
    world.assign(FREE, A).unwrap();
    assert_eq!(world.platform().flushes.load(SeqCst), before + 2);
}

#[test]
fn frames_in_a_row_are_taken_all_or_none() {
    let world = fresh();
    let refused = world.clean_free_frames(mfn(23), 2).unwrap_err();
    assert_eq!((refused.cause, refused.frame), (Cause::NotFree, mfn(23)));
    let beyond = world.clean_free_frames(mfn(30), 5).unwrap_err();
    assert_eq!((beyond.cause, beyond.frame), (Cause::NoSuchFrame, mfn(32)));
    for number in 24..32 {
        world.assign(mfn(number), A).unwrap();
    }
}

#[test]
fn guests_cannot_name_frames_of_the_hypervisors() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    let own = world.assign_to_hypervisor(world.clean_free_frames(FREE, 1).unwrap(), Purpose::Heap);
    for value in [ro(FREE), rw(FREE)] {
        assert_eq!(cause(update(world, L1, 3, value)), Cause::NotOwned);
    }
    assert_eq!(cause(update(world, FREE, 3, 0)), Cause::NotOwned);
    for level in Level::ALL {
        assert_eq!(cause(pin(world, level, FREE)), Cause::NotOwned);
    }
    assert_eq!(world.get_writable_ref(A, FREE).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.get_readable_ref(A, FREE).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.get_descriptor_ref(A, FREE).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.release(FREE, A).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.reclaim(FREE, A).unwrap_err().cause, Cause::NotOwned);
    assert_eq!(world.assign(FREE, A).unwrap_err().cause, Cause::NotFree);
    let summary = audit(world, &[], &mut Vec::new());
    assert_eq!(summary.hypervisor, 1);
    world.free_hypervisor_frames(own);
    world.assign(FREE, A).unwrap();
}

#[test]
fn memory_in_use_since_boot_belongs_to_the_hypervisor() {
    let world = fresh();
    // Frame 0 was not given as RAM.
    assert!(world.reserve_boot_frame(mfn(0)));
    assert!(!world.reserve_boot_frame(mfn(0)));
    assert!(!world.reserve_boot_frame(FREE));
    assert!(!world.add_ram_frame(mfn(0)));
    assert_eq!(world.info(mfn(0)).unwrap().purpose(), Some(Purpose::Boot));
    assert_eq!(world.assign(mfn(0), A).unwrap_err().cause, Cause::NotFree);
}

#[test]
fn a_reassigned_frame_is_flushed_first() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(0, Some((A, L4)));
    machine.touch(0, Vaddr::new(0));
    update(world, L1, 0, 0).unwrap();
    update(world, L1, 1, 0).unwrap();
    world.release(PAGE, A).unwrap();
    world.assign(PAGE, A).unwrap();
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(machine.flushes.load(SeqCst), 1);
    assert_sound(world, &[held(L4, RefKind::Root)]);
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

#[test]
fn an_owned_frame_cannot_change_hands_during_a_callback() {
    let world = fresh();
    let held = world.with_owned_frame(A, PAGE, || {
        assert_eq!(refusal(world.release(PAGE, A).map_err(Error::Refused)).cause, Cause::Busy);
        world.owner(PAGE)
    });
    assert_eq!(held.unwrap(), Some(A));
    // Whatever it is: a table too.
    pin(world, Level::L1, L1).unwrap();
    world.with_owned_frame(A, L1, || ()).unwrap();
    for (frame, why) in
        [(mfn(16), Cause::NotOwned), (mfn(30), Cause::NotOwned), (mfn(1 << 30), Cause::NoSuchFrame)]
    {
        let refused = world.with_owned_frame(A, frame, || panic!("it isn't A's"));
        assert_eq!(refused.map_err(|refusal| refusal.cause), Err(why));
    }
    world.release(PAGE, A).unwrap();
    assert_sound(world, &[]);
}
