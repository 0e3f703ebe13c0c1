//! The flush clock (`INV-TLB`, `INV-STAMP`).

use super::*;
use crate::tlb::FlushClock;
use std::sync::atomic::Ordering::SeqCst;

/// A world where CPU 0 runs domain A on the tree, and has written to [`PAGE`].
fn running() -> &'static World {
    let world = fresh();
    tree(world);
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    world.platform().load(0, Some((A, L4)));
    world.platform().touch(0, Vaddr::new(0));
    world
}

fn flushes(world: &World) -> usize {
    world.platform().flushes.load(SeqCst)
}

const ROOT: [ExternalRef; 1] = [ExternalRef { frame: L4, kind: RefKind::Root }];

#[test]
fn a_stale_writer_is_flushed_before_its_frame_becomes_a_table() {
    let world = running();
    update(world, L1, 0, 0).unwrap();
    assert_eq!(flushes(world), 0, "unmapping flushes nothing");
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(flushes(world), 1);
    assert_sound(world, &ROOT);
}

#[test]
fn a_cpu_that_flushed_meanwhile_is_not_flushed_again() {
    let world = running();
    update(world, L1, 0, 0).unwrap();
    world.platform().flush_cpu(0);
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(flushes(world), 0);
    assert_sound(world, &ROOT);
}

#[test]
fn a_flush_before_the_unmapping_does_not_count() {
    let world = running();
    world.platform().flush_cpu(0);
    world.platform().touch(0, Vaddr::new(0));
    update(world, L1, 0, 0).unwrap();
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(flushes(world), 1);
    assert_sound(world, &ROOT);
}

#[test]
fn only_cpus_that_ran_the_domain_are_flushed() {
    let world = running();
    // CPU 1 runs domain B.
    let root = mfn(16);
    world.get_root_ref(B, root, &mut Budget::unlimited()).unwrap();
    world.platform().load(1, Some((B, root)));
    update(world, L1, 0, 0).unwrap();
    pin(world, Level::L1, PAGE).unwrap();
    assert_eq!(flushes(world), 1);
}

#[test]
fn one_flush_serves_all_frames_unmapped_before_it() {
    let world = running();
    for (index, frame) in [(2, 6), (3, 7), (4, 8)] {
        update(world, L1, index, rw(mfn(frame))).unwrap();
        world.platform().touch(0, page(index as u64));
        update(world, L1, index, 0).unwrap();
    }
    for frame in 6..9 {
        pin(world, Level::L1, mfn(frame)).unwrap();
    }
    assert_eq!(flushes(world), 1);
    assert_sound(world, &ROOT);
}

#[test]
fn read_only_mappings_need_no_flush() {
    let world = running();
    update(world, L1, 0, 0).unwrap();
    world.platform().flush_cpu(0);
    world.platform().touch(0, page(1));
    pin(world, Level::L1, PAGE).unwrap();
    unpin(world, PAGE);
    assert_eq!(flushes(world), 0);
}

#[test]
fn a_table_that_was_walked_is_flushed_before_it_is_written() {
    // A CPU may go on walking a table through its paging-structure caches after the entry above
    // is gone; what the guest writes there would be taken for checked entries.
    let world = running();
    update(world, L2, 0, 0).unwrap();
    assert_eq!(world.info(L1).unwrap().held_as(), None);
    assert_eq!(flushes(world), 0);
    update(world, L1, 0, rw(L4)).unwrap();
    assert_eq!(flushes(world), 1);
    world.platform().touch_cached(0, 3, Vaddr::new(0));
    assert_sound(world, &ROOT);
}

#[test]
fn a_table_that_changes_level_is_flushed() {
    let world = running();
    update(world, L2, 0, 0).unwrap();
    world.platform().clear(L1);
    pin(world, Level::L2, L1).unwrap();
    assert_eq!(flushes(world), 1);
    assert_sound(world, &ROOT);
}

#[test]
fn a_table_that_stays_one_is_not_flushed() {
    let world = running();
    update(world, L2, 0, 0).unwrap();
    update(world, L2, 0, rw(L1)).unwrap();
    assert_eq!(flushes(world), 0);
    assert_sound(world, &ROOT);
}

#[test]
fn a_refused_pin_flushes_once() {
    let world = running();
    update(world, L1, 0, 0).unwrap();
    world.platform().set(PAGE, 0, rw(L1));
    for _ in 0..3 {
        assert_eq!(cause(pin(world, Level::L1, PAGE)), Cause::TableInUse);
        assert_eq!(flushes(world), 1);
    }
}

#[test]
fn a_table_that_fails_to_be_one_again_is_flushed_before_it_is_written() {
    // Walks remember it from before, and nothing was flushed since.
    let world = running();
    update(world, L2, 0, 0).unwrap();
    // What it maps writable becomes a table meanwhile.
    pin(world, Level::L1, PAGE).unwrap();
    world.platform().touch_cached(0, 3, page(1));
    let before = flushes(world);
    assert_eq!(cause(pin(world, Level::L1, L1)), Cause::TableInUse);
    update(world, L2, 3, 0).unwrap();
    world.get_writable_ref(A, L1).unwrap();
    assert_sound(world, &[ROOT[0], held(L1, RefKind::Writable)]);
    assert_eq!(flushes(world), before + 1);
}

#[test]
fn stamps_survive_the_clocks_wraparound() {
    const BITS: u32 = frame_table::STAMP_BITS;
    let all = CpuSet::of(0).with(1);
    for start in [1, (1 << BITS) - 3, (1 << BITS) - 1, 1 << BITS, (5 << BITS) - 2] {
        let clock = FlushClock::starting_at(start);
        let mut stamps = std::vec![clock.now()];
        let low = |now: u64| now & ((1 << BITS) - 1);
        for round in 0..6 {
            // Nobody flushed since the newest stamp.
            assert_eq!(clock.behind(low(*stamps.last().unwrap()), all), all);
            let ticket = clock.begin();
            let between = clock.now();
            clock.end(0, ticket);
            for &stamp in &stamps {
                assert_eq!(clock.behind(low(stamp), all), CpuSet::of(1), "{start} {round}");
            }
            // Drawn after the flush had begun: it doesn't count.
            assert_eq!(clock.behind(low(between), all), all);
            stamps.push(between);
        }
        // So old that its bits have come round: taken for young, never for older than it is.
        let ancient = low(start.wrapping_sub(1 << BITS).wrapping_add(7));
        assert_eq!(clock.behind(ancient, CpuSet::EMPTY), CpuSet::EMPTY);
    }
}

#[test]
fn an_unrecorded_flush_costs_flushes_but_hides_none() {
    let clock = FlushClock::new();
    let stamp = clock.now();
    drop(clock.begin());
    assert_eq!(clock.behind(stamp, CpuSet::of(0)), CpuSet::of(0));
    // Told late, by a CPU that there isn't: ignored.
    clock.end(9999, clock.begin());
    assert_eq!(clock.behind(stamp, CpuSet::of(0)), CpuSet::of(0));
}
