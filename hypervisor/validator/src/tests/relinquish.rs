//! The end of a domain (XSA-310: the same state machine).

use super::*;

fn finish(world: &World, dom: DomId, budget: u32) {
    let mut progress = RelinquishProgress::new();
    for _ in 0..100_000 {
        match world.relinquish(dom, &mut progress, &mut Budget::new(budget)) {
            Ok(()) => return,
            Err(Error::Preempted) => {}
            Err(Error::Refused(refusal)) => panic!("{refusal}"),
        }
    }
    panic!("no end with a budget of {budget}");
}

#[test]
fn after_relinquish_every_frame_can_be_released() {
    for budget in [1, 50, 100_000] {
        let world = fresh();
        tree(world);
        let machine = world.platform();
        // Linear, pinned at every level, a second tree half made, one half unmade.
        machine.set(L4, 9, ro(L4));
        machine.set(L3, 9, ro(L3));
        for (level, frame) in [(Level::L4, L4), (Level::L3, L3), (Level::L2, L2), (Level::L1, L1)] {
            pin(world, level, frame).unwrap();
        }
        for index in 0..512 {
            machine.set(mfn(6), index, rw(PAGE));
            machine.set(mfn(7), index, ro(mfn(8)));
        }
        machine.set(mfn(9), 0, rw(mfn(7)));
        pin(world, Level::L2, mfn(9)).unwrap();
        world.unpin(A, mfn(9), &mut Budget::new(100)).unwrap();
        assert_eq!(world.pin(A, Level::L1, mfn(6), &mut Budget::new(800)), Err(Error::Preempted));
        assert_sound(world, &[]);
        finish(world, A, budget);
        assert_sound(world, &[]);
        for frame in 1..16 {
            world.release(mfn(frame), A).unwrap();
        }
        assert_eq!(world.next_owned(A, mfn(0)), None);
        // The other domain is untouched.
        assert_eq!(world.owner(mfn(16)), Some(B));
    }
}

#[test]
fn roots_that_are_held_keep_their_tables() {
    let world = fresh();
    tree(world);
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    finish(world, A, 100);
    assert_eq!(world.info(L4).unwrap().held_as(), Some(Kind::L4));
    world.put_root_ref(A, L4, &mut Budget::new(10));
    finish(world, A, 100);
    assert_eq!(world.info(PAGE).unwrap().references(), 1);
}

#[test]
fn relinquish_finds_partial_tables_that_were_not_noted() {
    let world = fresh();
    for index in 0..512 {
        world.platform().set(L1, index, rw(PAGE));
    }
    assert_eq!(world.pin(A, Level::L1, L1, &mut Budget::new(99)), Err(Error::Preempted));
    finish(world, A, 10);
    world.release(L1, A).unwrap();
    world.release(PAGE, A).unwrap();
}
