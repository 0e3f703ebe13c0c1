//! Long work in small pieces (`INV-PARTIAL`, `INV-BOUND`; XSA-45, 240, 290, 299, 310).

use super::*;
use std::sync::atomic::Ordering;

/// Repeats until it isn't preempted; the number of times it was.
fn in_steps(
    budget: u32,
    mut step: impl FnMut(&mut Budget) -> Result<(), Error>,
) -> (Result<(), Refusal>, u32) {
    for preempted in 0..100_000 {
        match step(&mut Budget::new(budget)) {
            Ok(()) => return (Ok(()), preempted),
            Err(Error::Refused(refusal)) => return (Err(refusal), preempted),
            Err(Error::Preempted) => {}
        }
    }
    panic!("no progress with a budget of {budget}");
}

/// A bushy tree: an L4, two L3, two L2, three L1, some shared.
fn bushy() -> &'static World {
    let world = two_domains(Setup { frames: 40, ..Setup::default() });
    let machine = world.platform();
    for (table, index, to) in [
        (1, 0, 2),
        (1, 511, 3),
        (2, 0, 4),
        (2, 9, 5),
        (3, 510, 5),
        (4, 0, 6),
        (4, 1, 7),
        (5, 0, 7),
        (5, 400, 8),
    ] {
        machine.set(mfn(table), index, rw(mfn(to)));
    }
    for table in 6..9 {
        for index in 0..512 {
            let entry = if index % 3 == 0 { rw(mfn(9)) } else { ro(mfn(1 + index as u64 % 9)) };
            machine.set(mfn(table), index, entry);
        }
    }
    world
}

#[test]
fn any_budget_completes_a_pin_and_an_unpin() {
    for budget in [1, 2, 3, 7, 64, 511, 512, 513, 5000] {
        let world = bushy();
        let (result, preempted) = in_steps(budget, |budget| {
            let step = world.pin(A, Level::L4, mfn(1), budget);
            assert_sound(world, &[]);
            step
        });
        assert_eq!(result, Ok(()));
        assert!(preempted > 0 || budget == 5000);
        assert_eq!(world.info(mfn(7)).unwrap().type_count(), 2);
        // Unpinning is done at once; the rest is done by whatever the domain does next.
        world.unpin(A, mfn(1), &mut Budget::new(budget)).unwrap();
        assert_sound(world, &[]);
        let (result, _) = in_steps(budget, |budget| {
            let step = world.update(change(mfn(10), 0, 0), budget).map(|_| ());
            assert_sound(world, &[]);
            step
        });
        assert_eq!(result, Ok(()));
        for frame in 1..9 {
            assert_eq!(world.info(mfn(frame)).unwrap().references(), 1, "frame {frame}");
        }
    }
}

#[test]
fn a_refusal_has_its_evidence_at_any_budget() {
    for budget in [1, 2, 5, 100, 600, 1500] {
        let world = bushy();
        // The last L1 to be reached maps the L4 writable.
        world.platform().set(mfn(8), 511, rw(mfn(1)));
        let (result, _) = in_steps(budget, |budget| {
            let step = world.pin(A, Level::L4, mfn(1), budget);
            assert_sound(world, &[]);
            step
        });
        let refused = result.unwrap_err();
        assert_eq!((refused.cause, refused.frame), (Cause::TableInUse, mfn(1)));
        let location = refused.location.unwrap();
        assert_eq!((location.table, location.index), (mfn(8), slot(511)));
        // What the last budget didn't reach is done by whatever the domain does next.
        in_steps(budget, |budget| world.update(change(mfn(10), 0, 0), budget).map(|_| ()))
            .0
            .unwrap();
        for frame in 1..10 {
            assert_eq!(world.info(mfn(frame)).unwrap().references(), 1, "frame {frame}");
        }
    }
}

#[test]
fn an_abandoned_pin_blocks_nothing() {
    let world = bushy();
    assert_eq!(world.pin(A, Level::L4, mfn(1), &mut Budget::new(700)), Err(Error::Preempted));
    assert_eq!(world.info(mfn(1)).unwrap().state(), State::Partial);
    // The guest uses the half-made root as memory again: it is taken apart for that.
    update(world, mfn(10), 0, rw(mfn(1))).unwrap();
    world.platform().set(mfn(10), 1, 0);
    pin(world, Level::L1, mfn(10)).unwrap();
    assert_eq!(world.info(mfn(1)).unwrap().held_as(), Some(Kind::Writable));
    assert_sound(world, &[]);
    // Only the L1 at which it stopped is still half made.
    let partial: Vec<u64> =
        (1..16).filter(|&n| world.info(mfn(n)).unwrap().state() == State::Partial).collect();
    assert!(partial.len() <= 3, "{partial:?}");
}

#[test]
fn a_partial_table_can_be_pinned_as_another_type() {
    let world = fresh();
    tree(world);
    assert_eq!(world.pin(A, Level::L1, L1, &mut Budget::new(300)), Err(Error::Preempted));
    world.platform().set(L1, 400, 0);
    assert_eq!(world.info(L1).unwrap().resume(), Some(300));
    world.platform().set(L1, 0, 0);
    world.platform().set(L1, 0, rw(PAGE));
    // As an L2 it would point to PAGE as an L1 table: fine, but for the L1 that holds it writable.
    pin(world, Level::L2, L1).unwrap();
    assert_eq!(world.info(PAGE).unwrap().held_as(), Some(Kind::L1));
    assert_sound(world, &[]);
}

#[test]
fn a_suspended_demotion_can_become_a_promotion() {
    // XSA-299: a child that was half demoted must not be taken for a whole one.
    for budget in 1..40 {
        let world = bushy();
        pin(world, Level::L4, mfn(1)).unwrap();
        world.unpin(A, mfn(1), &mut Budget::new(budget * 40)).unwrap();
        assert_sound(world, &[]);
        pin(world, Level::L4, mfn(1)).unwrap();
        for frame in 1..6 {
            assert_eq!(world.info(mfn(frame)).unwrap().state(), State::Validated);
        }
        assert_sound(world, &[]);
    }
}

#[test]
fn a_suspect_entry_that_was_fixed_is_accepted() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    machine.set(L2, 0, 0);
    for index in 0..20 {
        machine.set(L2, index, rw(mfn(6 + index as u64 % 4)));
    }
    for table in 6..10 {
        for index in 0..512 {
            machine.set(mfn(table), index, ro(PAGE));
        }
    }
    machine.set(L2, 21, rw(L2));
    // Enough to find the bad entry, not enough to go back all the way.
    let stopped = world.pin(A, Level::L2, L2, &mut Budget::new(4 * 512 + 22));
    assert_eq!(stopped, Err(Error::Preempted));
    // The guest can't write to it, but the frame's state may stem from another vCPU's attempt.
    machine.set(L2, 21, 0);
    assert_eq!(in_steps(100, |budget| world.pin(A, Level::L2, L2, budget)).0, Ok(()));
    assert_sound(world, &[]);
}

#[test]
fn no_call_visits_more_than_its_budget() {
    let world = bushy();
    for left in [1, 10, 100] {
        let mut budget = Budget::new(left);
        let before = world.platform().reads.load(Ordering::Relaxed);
        let _ = world.pin(A, Level::L4, mfn(1), &mut budget);
        assert_eq!(budget.left(), 0);
        // An entry is read up to twice: with its group, to see whether that is all zero, and by itself.
        let read = world.platform().reads.load(Ordering::Relaxed) - before;
        assert!(read <= 2 * left as usize + 16, "{read} entries read with a budget of {left}");
    }
    in_steps(1000, |budget| world.pin(A, Level::L4, mfn(1), budget)).0.unwrap();
    let mut budget = Budget::new(10_000);
    world.unpin(A, mfn(1), &mut budget).unwrap();
    // Five tables above L1 (the root's reserved slots are free), three L1.
    assert_eq!(10_000 - budget.left(), 5 * 512 - 16 + 3 * 512);
}
