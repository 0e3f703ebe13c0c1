//! One promise a test.

use crate::guest::{POLICIES, leave_behind, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Level, Pfn, Vaddr};
use pinfold_guest::mmu::{Error, Leaf, Mmu, Reuse};
use pinfold_guest::vmap::Policy;
use pinfold_validator::Cause;

const VA: Vaddr = Vaddr(0x0000_1234_5678_9000);

/// Policies under which a dead mapping stays for a while.
fn lazy_policies() -> impl Iterator<Item = Policy> {
    POLICIES.into_iter().filter(|&policy| policy != Policy::Eager)
}

#[test]
fn a_naive_pin_of_a_page_with_a_stray_mapping_is_refused() {
    for policy in lazy_policies() {
        with_guest(policy, true, |mmu| {
            let mut tree = mmu.alloc_tables(1).unwrap();
            leave_behind(mmu, &[tree.frames()[0]]);
            tree = mmu.pin_without_before_pin(tree).expect_err("an alias is in the way").0;
            assert!(
                matches!(mmu.platform().last_refusal, Some(Cause::WritableAlias)),
                "{policy}: {:?}",
                mmu.platform().last_refusal
            );
            mmu.free_tables(tree);
        });
    }
}

#[test]
fn the_same_pin_through_the_shim_succeeds() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                let tree = mmu.alloc_tables(1).unwrap();
                leave_behind(mmu, &[tree.frames()[0]]);
                let space = mmu.pin(tree).unwrap_or_else(|(_, error)| panic!("{policy}: {error}"));
                let tree = mmu.unpin(space).unwrap();
                mmu.free_tables(tree);
                assert_eq!(mmu.stats().refused, 0);
            });
        }
    }
}

#[test]
fn cached_and_atomic_slots_are_cleared_before_a_pin() {
    for extra in [false, true] {
        with_guest(Policy::Lazy, extra, |mmu| {
            let (from, to) = (mmu.alloc_tables(1).unwrap(), mmu.alloc_tables(1).unwrap());
            let mapped = mmu.kmap(from.frames()[0]).unwrap();
            mmu.kunmap(mapped);
            mmu.copy_frame(1, from.frames()[0], to.frames()[0]).unwrap();
            for tree in [from, to] {
                let tree = mmu.pin_without_before_pin(tree).expect_err("a slot maps it").0;
                let space = mmu.pin(tree).unwrap();
                let tree = mmu.unpin(space).unwrap();
                mmu.free_tables(tree);
            }
        });
    }
}

#[test]
fn a_page_that_is_mapped_on_purpose_is_not_pinned() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let tree = mmu.alloc_tables(2).unwrap();
            let area = mmu.vmap(tree.frames()).unwrap();
            let (tree, error) = mmu.pin(tree).expect_err("it is mapped");
            assert_eq!(error, Error::InUse(area.start()));
            mmu.vunmap(area).unwrap();
            let mapped = mmu.kmap(tree.frames()[0]).unwrap();
            let (tree, error) = mmu.pin(tree).expect_err("it is mapped");
            assert_eq!(error, Error::InUse(mapped.va()));
            mmu.kunmap(mapped);
            let space = mmu.pin(tree).unwrap();
            let tree = mmu.unpin(space).unwrap();
            mmu.free_tables(tree);
            assert_eq!(mmu.stats().refused, 0, "the hypervisor never had to refuse");
        });
    }
}

#[test]
fn a_refused_tree_comes_back_writable() {
    with_guest(Policy::Lazy, true, |mmu| {
        let mut tree = mmu.alloc_tables(1).unwrap();
        // Bit 51 of an address: no machine has such memory.
        mmu.write_entry(&tree, 5, 1 << 51 | 1);
        tree = mmu.pin(tree).expect_err("a bad entry").0;
        mmu.write_entry(&tree, 5, 0);
        let space = mmu.pin(tree).unwrap();
        let tree = mmu.unpin(space).unwrap();
        mmu.free_tables(tree);
    });
}

#[test]
fn a_graft_deals_with_stray_mappings_as_a_pin_does() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let root = mmu.alloc_root().unwrap();
            let mut space = mmu.pin(root).unwrap();
            let mut branch = mmu.alloc_tables(3).unwrap();
            let data = mmu.alloc_frame().unwrap();
            mmu.write(data, 0, 77);
            mmu.map_in(&mut branch, VA, Leaf::kernel(data)).unwrap();
            let frames = branch.frames().to_vec();
            // The tables themselves stay mapped, dead.
            leave_behind_unwritten(mmu, &frames);
            mmu.link_subtree(&mut space, VA.index(Level::L4).get(), branch).unwrap();
            // SAFETY: the root is of `alloc_root`.
            let before = unsafe { mmu.activate(space.root()) }.unwrap();
            assert_eq!(mmu.load(VA), 77);
            // SAFETY: it was loaded until now.
            unsafe { mmu.activate(before) }.unwrap();
            let tree = mmu.unpin(space).unwrap();
            mmu.free_tables(tree);
            assert_eq!(mmu.stats().refused, 0);
        });
    }
}

fn leave_behind_unwritten(mmu: &mut Mmu<Machine<'_>>, frames: &[Pfn]) {
    let area = mmu.vmap(frames).unwrap();
    mmu.vunmap(area).unwrap();
}

#[test]
fn held_frames_are_not_given_out_while_a_dead_mapping_has_them() {
    with_guest(Policy::HoldRefs, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        leave_behind(mmu, &[frame]);
        let free = mmu.free_frames();
        mmu.free_frame(frame);
        assert_eq!(mmu.free_frames(), free, "kept back");
        mmu.purge_vmap().unwrap();
        assert_eq!(mmu.free_frames(), free + 1, "free at last");
    });
}

#[test]
fn held_frames_are_had_when_nothing_else_is_left() {
    with_guest(Policy::HoldRefs, false, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        leave_behind(mmu, &[frame]);
        mmu.free_frame(frame);
        let mut taken = Vec::new();
        while let Ok(frame) = mmu.alloc_frame() {
            taken.push(frame);
        }
        assert!(taken.contains(&frame));
        for frame in taken {
            mmu.free_frame(frame);
        }
    });
}

#[test]
fn addresses_are_used_again_only_after_a_flush() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                // So many areas that the range is used several times over; the TLB of the model
                // shows whatever was not flushed.
                for round in 0..if cfg!(miri) { 20 } else { 300 } {
                    let frames = [mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap()];
                    let area = mmu.vmap(&frames).unwrap();
                    for (page, frame) in (0..).zip(frames) {
                        mmu.store(area.start().page(page), round ^ frame.0);
                        assert_eq!(mmu.read(frame, 0), round ^ frame.0, "{policy}");
                    }
                    mmu.vunmap(area).unwrap();
                    for frame in frames {
                        mmu.free_frame(frame);
                    }
                }
            });
        }
    }
}

#[test]
#[should_panic(expected = "CPU 2 has no atomic slots")]
fn atomic_slots_are_a_pair_for_each_cpu() {
    with_guest(Policy::Lazy, true, |mmu| {
        assert_ne!(mmu.kmap_pair(0), mmu.kmap_pair(1));
        mmu.kmap_pair(2);
    });
}

#[test]
fn the_oldest_or_the_newest_free_frame_is_used_as_told() {
    with_guest(Policy::Lazy, true, |mmu| {
        let (first, second) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        mmu.free_frame(first);
        mmu.free_frame(second);
        assert_eq!(mmu.alloc_frame(), Ok(second));
        mmu.set_reuse(Reuse::Oldest);
        assert_ne!(mmu.alloc_frame(), Ok(first), "others were free all the time");
    });
}

#[test]
#[should_panic(expected = "is not for data")]
fn homes_are_not_written_by_address() {
    with_guest(Policy::Lazy, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        let home = mmu.direct_map_va(frame);
        mmu.store(home, 1);
    });
}

#[test]
#[should_panic(expected = "frame 0x0 is not for data")]
fn the_builders_frames_are_not_written() {
    with_guest(Policy::Lazy, true, |mmu| mmu.write(Pfn(0), 0, 1));
}

#[test]
fn a_full_cache_of_slots_gives_way() {
    with_guest(Policy::Lazy, true, |mmu| {
        let frames: Vec<_> = (0..40).map(|_| mmu.alloc_frame().unwrap()).collect();
        for &frame in &frames {
            let mapped = mmu.kmap(frame).unwrap();
            mmu.store(mapped.va(), frame.0);
            assert_eq!(mmu.read(frame, 0), frame.0);
            mmu.kunmap(mapped);
        }
        let held: Vec<_> = frames.iter().take(8).map(|&frame| mmu.kmap(frame).unwrap()).collect();
        assert_eq!(mmu.kmap(frames[20]).unwrap_err(), Error::NoRoom, "all slots have users");
        for mapped in held {
            mmu.kunmap(mapped);
        }
    });
}
