//! The pool of clean frames for page tables.

use crate::guest::{POLICIES, make_stray, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::Pfn;
use pinfold_guest::mmu::{AddressSpace, Mmu, Reuse};
use pinfold_guest::vmap::Policy;

/// Frames cleaned at a time.
const SIZE: usize = 8;

/// Makes dead mappings of so many frames and frees the frames: they are allocated next.
fn free_with_mappings(mmu: &mut Mmu<Machine<'_>>, count: usize) -> Vec<Pfn> {
    let frames: Vec<_> = (0..count).map(|_| mmu.alloc_frame().unwrap()).collect();
    for &frame in &frames {
        make_stray(mmu, &[frame]);
    }
    for &frame in &frames {
        mmu.free_frame(frame);
    }
    frames
}

fn pin(mmu: &mut Mmu<Machine<'_>>, level: u8) -> AddressSpace {
    let tables = mmu.alloc_tables(level).unwrap();
    mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("{error}"))
}

fn end(mmu: &mut Mmu<Machine<'_>>, space: AddressSpace) {
    let tables = mmu.unpin(space).unwrap();
    mmu.free_tables(tables);
}

#[test]
fn one_refill_shootdown_serves_many_pins() {
    with_guest(Policy::Targeted, true, |mmu| {
        let bystander = mmu.alloc_frame().unwrap();
        make_stray(mmu, &[bystander]);
        let dead = free_with_mappings(mmu, SIZE);
        mmu.set_table_pool(SIZE);
        let before = mmu.stats();
        let spaces: Vec<_> = (0..SIZE).map(|_| pin(mmu, 1)).collect();
        let done = mmu.stats() - before;
        assert_eq!((done.refills, done.pooled, done.clean_pins), (1, 8, 8));
        assert_eq!((done.shootdowns, done.flushes, done.cleared), (1, 1, 8));
        assert_eq!((done.pins_after_clear, done.refused), (0, 0));
        for space in spaces {
            assert!(dead.contains(&space.root()), "the pool took the frames freed last");
            end(mmu, space);
        }
        // They are still clean: nothing has to be cleared again.
        let spaces: Vec<_> = (0..SIZE).map(|_| pin(mmu, 1)).collect();
        assert_eq!((mmu.stats() - before).shootdowns, 1);
        for space in spaces {
            end(mmu, space);
        }
    });
}

#[test]
fn a_refill_clears_slots_and_areas_with_one_call() {
    with_guest(Policy::Targeted, true, |mmu| {
        let (from, to) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        make_stray(mmu, &[from]);
        let mapped = mmu.kmap(to).unwrap();
        mmu.kunmap(mapped);
        mmu.copy_frame(0, from, to).unwrap();
        mmu.free_frame(from);
        mmu.free_frame(to);
        mmu.set_table_pool(SIZE);
        let (calls, before) = (mmu.platform().calls, mmu.stats());
        let tables = mmu.alloc_tables(1).unwrap();
        assert_eq!(mmu.platform().calls - calls, 1);
        let done = mmu.stats() - before;
        assert_eq!((done.cleared, done.kmaps_cleared, done.flushes), (1, 3, 1));
        mmu.free_tables(tables);
    });
}

#[test]
fn mapping_a_clean_frame_removes_the_mark() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                mmu.set_table_pool(SIZE);
                let trees = [(); 3].map(|()| mmu.alloc_tables(1).unwrap());
                let frames = trees.each_ref().map(|tables| tables.frames()[0]);
                // By an area, by a cached slot, by an atomic slot.
                make_stray(mmu, &frames[..1]);
                let mapped = mmu.kmap(frames[1]).unwrap();
                mmu.kunmap(mapped);
                mmu.copy_frame(0, frames[1], frames[2]).unwrap();
                let before = mmu.stats();
                for tables in trees {
                    let space = mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("{error}"));
                    end(mmu, space);
                }
                let done = mmu.stats() - before;
                assert_eq!((done.refused, done.clean_pins), (0, 0), "{policy}");
            });
        }
    }
}

#[test]
fn a_pin_examines_a_pool_frame_that_was_mapped() {
    with_guest(Policy::Targeted, true, |mmu| {
        mmu.set_table_pool(SIZE);
        let tables = mmu.alloc_tables(1).unwrap();
        let stale = tables.frames()[0];
        mmu.set_reuse(Reuse::Oldest);
        mmu.free_tables(tables);
        // It is in the pool, and its former owner still maps it.
        make_stray(mmu, &[stale]);
        let spaces: Vec<_> = (0..SIZE).map(|_| pin(mmu, 1)).collect();
        assert!(spaces.iter().any(|space| space.root() == stale));
        assert_eq!(mmu.stats().refused, 0);
        for space in spaces {
            end(mmu, space);
        }
    });
}

#[test]
fn a_refill_skips_frames_freed_while_mapped() {
    with_guest(Policy::Targeted, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        let area = mmu.vmap(&[frame]).unwrap();
        mmu.free_frame(frame);
        mmu.set_table_pool(SIZE);
        let spaces: Vec<_> = (0..SIZE - 1).map(|_| pin(mmu, 1)).collect();
        assert!(spaces.iter().all(|space| space.root() != frame));
        mmu.vunmap(area).unwrap();
        for space in spaces {
            end(mmu, space);
        }
    });
}

#[test]
fn alloc_frame_falls_back_to_the_pool() {
    with_guest(Policy::Lazy, true, |mmu| {
        mmu.set_table_pool(SIZE);
        let tables = mmu.alloc_tables(1).unwrap();
        let free = mmu.free_frames();
        let taken: Vec<_> = std::iter::from_fn(|| mmu.alloc_frame().ok()).collect();
        assert_eq!(taken.len(), free);
        for frame in taken {
            mmu.free_frame(frame);
        }
        mmu.free_tables(tables);
        let free = mmu.free_frames();
        mmu.set_table_pool(0);
        assert_eq!(mmu.free_frames(), free);
    });
}
