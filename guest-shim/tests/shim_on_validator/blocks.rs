//! Small areas from blocks: stale mappings are found whatever happens to their block.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::mmu::{Error, Mmu};
use pinfold_guest::vmap::{Area, BLOCK_PAGES, Policy, Region, SMALL_PAGES};

/// Maps frames in as many small areas as fill a block.
fn fill_block(mmu: &mut Mmu<Machine<'_>>, cpu: usize) -> (Vec<Area>, Vec<Pfn>) {
    let frames: Vec<Pfn> = (0..BLOCK_PAGES).map(|_| mmu.alloc_frame().unwrap()).collect();
    let areas: Vec<Area> = frames
        .chunks(SMALL_PAGES as usize)
        .map(|some| mmu.vmap_small(Region::default(), cpu, some).expect("room"))
        .collect();
    let first = areas[0].start();
    for (page, frame) in (0..).zip(&frames) {
        mmu.store(first.page(page), frame.0 << 1);
        assert_eq!(mmu.read(*frame, 0), frame.0 << 1, "areas of a block touch");
    }
    (areas, frames)
}

/// Uses up a block and unmaps all its areas. The frames are free afterwards; the last one is
/// allocated next.
fn use_up(mmu: &mut Mmu<Machine<'_>>, cpu: usize) -> Vec<Pfn> {
    let (areas, frames) = fill_block(mmu, cpu);
    for area in areas {
        mmu.vunmap(area).unwrap();
    }
    for &frame in &frames {
        mmu.free_frame(frame);
    }
    frames
}

#[test]
fn a_pin_clears_mappings_of_a_drained_block() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                for round in 0..12 {
                    let frames = use_up(mmu, round % 2);
                    let tables = mmu.alloc_tables(1).unwrap();
                    if policy != Policy::HoldRefs {
                        assert!(frames.contains(&tables.frames()[0]), "{policy}");
                    }
                    let space = mmu.pin(tables).unwrap_or_else(|(_, e)| panic!("{policy}: {e}"));
                    let tables = mmu.unpin(space).unwrap();
                    mmu.free_tables(tables);
                }
                assert_eq!(mmu.stats().refused, 0);
            });
        }
    }
}

#[test]
fn a_pin_is_refused_until_a_leaked_block_is_reclaimed() {
    for policy in POLICIES.into_iter().filter(|&policy| policy != Policy::Eager) {
        with_guest(policy, true, |mmu| {
            mmu.leak_blocks(1, true);
            // Mappings of another CPU's block are found all the same.
            let kept = use_up(mmu, 0);
            let free = mmu.free_frames();
            let lost = use_up(mmu, 1);
            assert_eq!(
                mmu.free_frames(),
                free,
                "the free of a leaked frame is not deferred: {policy}"
            );
            // Half of the block's mappings may have been cleared by a full batch.
            let tables = mmu.alloc_tables(1).unwrap();
            assert!(lost.contains(&tables.frames()[0]));
            let tables = mmu.pin(tables).expect_err("the index does not have the mapping").0;
            assert!(mmu.reclaim_leaked_blocks().unwrap() > 0);
            let space = mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("{policy}: {error}"));
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
            assert_eq!(mmu.stats().refused, 1);
            drop(kept);
        });
    }
}

#[test]
fn addresses_of_drained_blocks_are_reused() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                // The range has 512 pages; four times as many are used.
                for round in 0..32 {
                    use_up(mmu, round % 2);
                }
            });
        }
    }
}

#[test]
fn idle_blocks_are_closed_when_addresses_are_scarce() {
    with_guest(Policy::Lazy, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        for cpu in 0..2 {
            let area = mmu.vmap_small(Region::default(), cpu, &[frame]).unwrap();
            mmu.vunmap(area).unwrap();
        }
        // The whole range, except for the page after the area.
        let frames = vec![frame; 511];
        let area = mmu.vmap(&frames).expect("the two blocks in the way are idle");
        assert_eq!(mmu.vmap_small(Region::default(), 0, &[frame]).unwrap_err(), Error::NoRoom);
        mmu.vunmap(area).unwrap();
        let area = mmu.vmap_small(Region::default(), 0, &[frame]).unwrap();
        mmu.vunmap(area).unwrap();
    });
}

#[test]
fn an_address_of_a_block_is_reused_only_after_a_flush() {
    with_guest(Policy::Targeted, true, |mmu| {
        let mut seen = Vec::<Vaddr>::new();
        let frame = mmu.alloc_frame().unwrap();
        for _ in 0..BLOCK_PAGES * 2 {
            let area = mmu.vmap_small(Region::default(), 0, &[frame]).unwrap();
            assert!(!seen.contains(&area.start()));
            seen.push(area.start());
            mmu.vunmap(area).unwrap();
        }
        assert_eq!(mmu.stats().flushes, 0);
        mmu.purge_vmap().unwrap();
        let area = mmu.vmap_small(Region::default(), 0, &[frame]).unwrap();
        assert!(seen.contains(&area.start()), "the first block is free again");
        mmu.vunmap(area).unwrap();
    });
}

#[test]
fn purge_aged_clears_mappings_of_that_age() {
    for policy in [Policy::Batch(8), Policy::Lazy, Policy::Targeted] {
        with_guest(policy, true, |mmu| {
            let frame = mmu.alloc_frame().unwrap();
            assert_eq!(mmu.purge_aged(100, 15), Ok(0), "nothing is dead");
            let area = mmu.vmap_small(Region::default(), 0, &[frame]).unwrap();
            mmu.vunmap(area).unwrap();
            mmu.purge_aged(110, 15).unwrap();
            let area = mmu.vmap_small(Region::default(), 0, &[frame]).unwrap();
            mmu.vunmap(area).unwrap();
            assert_eq!(mmu.stats().cleared, 0);
            assert_eq!(mmu.purge_aged(115, 15), Ok(2), "the younger one goes with it: {policy}");
        });
    }
}
