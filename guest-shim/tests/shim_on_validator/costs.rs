//! The costs of the policies, in hypercalls.

use crate::guest::{make_stray, with_guest};
use crate::machine::Machine;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::vmap::Policy;

/// Calls of a pin of one new L1 table while there are this many dead mappings of other frames.
fn pin_beside(mmu: &mut Mmu<Machine<'_>>, dead: usize) -> u64 {
    for _ in 0..dead {
        let frame = mmu.alloc_frame().unwrap();
        make_stray(mmu, &[frame]);
        // It stays allocated, so that it does not become the table.
    }
    let tables = mmu.alloc_tables(1).unwrap();
    let before = mmu.platform().calls;
    let space = mmu.pin(tables).unwrap();
    let calls = mmu.platform().calls - before;
    let tables = mmu.unpin(space).unwrap();
    mmu.free_tables(tables);
    calls
}

/// One call for the direct map, one for the pin.
const LEAST: u64 = 2;

#[test]
fn a_pin_without_stray_mappings_costs_two_calls() {
    for policy in [Policy::Eager, Policy::HoldRefs, Policy::Hinted, Policy::Targeted] {
        with_guest(policy, true, |mmu| assert_eq!(pin_beside(mmu, 20), LEAST, "{policy}"));
    }
}

#[test]
fn policies_without_an_index_clear_mappings_of_other_frames() {
    for policy in [Policy::Batch(64), Policy::Lazy] {
        with_guest(policy, true, |mmu| {
            assert_eq!(pin_beside(mmu, 20), LEAST + 1, "{policy}");
            assert_eq!(mmu.stats().cleared, 20, "{policy}");
        });
    }
}

#[test]
fn a_hinted_pin_clears_all_dead_mappings_or_none() {
    with_guest(Policy::Hinted, true, |mmu| {
        let others: Vec<_> = (0..10).map(|_| mmu.alloc_frame().unwrap()).collect();
        make_stray(mmu, &others);
        let trees = [mmu.alloc_tables(1).unwrap(), mmu.alloc_tables(1).unwrap()];
        make_stray(mmu, &[trees[0].frames()[0], trees[1].frames()[0]]);
        for (tables, cleared) in trees.into_iter().zip([12, 0]) {
            let before = mmu.stats();
            let space = mmu.pin(tables).unwrap();
            assert_eq!((mmu.stats() - before).cleared, cleared);
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
        }
    });
}

#[test]
fn a_targeted_pin_clears_only_mappings_of_its_frames() {
    for (extra, calls) in [(true, 1), (false, 3)] {
        with_guest(Policy::Targeted, extra, |mmu| {
            let others: Vec<_> = (0..10).map(|_| mmu.alloc_frame().unwrap()).collect();
            make_stray(mmu, &others);
            let tables = mmu.alloc_tables(1).unwrap();
            // Both mappings are cleared: with one call, or with three where there is no shootdown
            // (the refused call, the updates, the flush).
            make_stray(mmu, &[others[0], tables.frames()[0]]);
            make_stray(mmu, &[tables.frames()[0], others[1]]);
            let (before, stats) = (mmu.platform().calls, mmu.stats());
            let space = mmu.pin(tables).unwrap();
            assert_eq!(mmu.platform().calls - before, LEAST + calls);
            let done = mmu.stats() - stats;
            assert_eq!((done.cleared, done.flushes, done.pins_after_clear), (2, 1, 1));
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
        });
    }
}

#[test]
fn a_batch_is_cleared_when_it_is_full() {
    with_guest(Policy::Batch(8), true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        for round in 1..=24 {
            make_stray(mmu, &[frame]);
            assert_eq!(mmu.stats().shootdowns, round / 8);
        }
    });
}

#[test]
fn lazy_policies_flush_far_less_often_than_eager_ones() {
    let flushes = |policy| {
        let mut flushes = 0;
        with_guest(policy, true, |mmu| {
            let frame = mmu.alloc_frame().unwrap();
            for _ in 0..200 {
                make_stray(mmu, &[frame]);
            }
            flushes = mmu.stats().flushes;
        });
        flushes
    };
    assert_eq!(flushes(Policy::Eager), 200);
    for policy in [Policy::Lazy, Policy::HoldRefs, Policy::Hinted, Policy::Targeted] {
        assert!(flushes(policy) <= 2, "{policy}");
    }
}

#[test]
fn the_validator_flushes_for_a_type_change_only_if_the_guest_did_not() {
    with_guest(Policy::Targeted, true, |mmu| {
        let tables = mmu.alloc_tables(1).unwrap();
        make_stray(mmu, &[tables.frames()[0]]);
        // The direct map becomes read-only without a flush: only the validator's own flush is
        // needed, whatever lazy mappings there were.
        let before = mmu.platform().forced_flushes();
        let space = mmu.pin(tables).unwrap();
        assert_eq!(mmu.platform().forced_flushes() - before, 1);
        let tables = mmu.unpin(space).unwrap();
        mmu.free_tables(tables);
    });
}
