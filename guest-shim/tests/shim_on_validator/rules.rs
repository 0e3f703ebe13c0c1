//! The rules of the crate, one test each.

use crate::guest::{POLICIES, make_stray, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Level, Pfn, Vaddr};
use pinfold_guest::mmu::{Error, Leaf, Mmu, Reuse};
use pinfold_guest::vmap::Policy;
use pinfold_validator::Cause;

const VA: Vaddr = Vaddr(0x0000_1234_5678_9000);

/// Policies that leave dead mappings.
fn lazy_policies() -> impl Iterator<Item = Policy> {
    POLICIES.into_iter().filter(|&policy| policy != Policy::Eager)
}

#[test]
fn a_pin_without_before_pin_is_refused_for_a_stray_mapping() {
    for policy in lazy_policies() {
        with_guest(policy, true, |mmu| {
            let mut tables = mmu.alloc_tables(1).unwrap();
            make_stray(mmu, &[tables.frames()[0]]);
            tables = mmu.pin_without_before_pin(tables).expect_err("an alias is in the way").0;
            assert!(
                matches!(mmu.platform().last_refusal, Some(Cause::WritableAlias)),
                "{policy}: {:?}",
                mmu.platform().last_refusal
            );
            mmu.free_tables(tables);
        });
    }
}

#[test]
fn a_pin_succeeds_in_spite_of_a_stray_mapping() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                let tables = mmu.alloc_tables(1).unwrap();
                make_stray(mmu, &[tables.frames()[0]]);
                let space =
                    mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("{policy}: {error}"));
                let tables = mmu.unpin(space).unwrap();
                mmu.free_tables(tables);
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
            for tables in [from, to] {
                let tables = mmu.pin_without_before_pin(tables).expect_err("a slot maps it").0;
                let space = mmu.pin(tables).unwrap();
                let tables = mmu.unpin(space).unwrap();
                mmu.free_tables(tables);
            }
        });
    }
}

#[test]
fn a_pin_of_a_frame_in_use_fails_without_a_call() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let tables = mmu.alloc_tables(2).unwrap();
            let area = mmu.vmap(tables.frames()).unwrap();
            let (tables, error) = mmu.pin(tables).expect_err("it is mapped");
            assert_eq!(error, Error::InUse(area.start()));
            mmu.vunmap(area).unwrap();
            let mapped = mmu.kmap(tables.frames()[0]).unwrap();
            let (tables, error) = mmu.pin(tables).expect_err("it is mapped");
            assert_eq!(error, Error::InUse(mapped.va()));
            mmu.kunmap(mapped);
            let space = mmu.pin(tables).unwrap();
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
            assert_eq!(mmu.stats().refused, 0, "the hypervisor never had to refuse");
        });
    }
}

#[test]
fn refused_tables_come_back_writable() {
    with_guest(Policy::Lazy, true, |mmu| {
        let mut tables = mmu.alloc_tables(1).unwrap();
        // Bit 51 of an address: no machine has such memory.
        mmu.write_entry(&tables, 5, 1 << 51 | 1);
        tables = mmu.pin(tables).expect_err("a bad entry").0;
        mmu.write_entry(&tables, 5, 0);
        let space = mmu.pin(tables).unwrap();
        let tables = mmu.unpin(space).unwrap();
        mmu.free_tables(tables);
    });
}

#[test]
fn linking_a_subtree_clears_stray_mappings() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let root = mmu.alloc_root().unwrap();
            let mut space = mmu.pin(root).unwrap();
            let mut branch = mmu.alloc_tables(3).unwrap();
            let data = mmu.alloc_frame().unwrap();
            mmu.write(data, 0, 77);
            mmu.map_in(&mut branch, VA, Leaf::kernel(data)).unwrap();
            let frames = branch.frames().to_vec();
            // Dead mappings of the tables themselves.
            make_unwritten_stray(mmu, &frames);
            mmu.link_subtree(&mut space, VA.index(Level::L4).get(), branch).unwrap();
            // SAFETY: the root was made by `alloc_root`.
            let before = unsafe { mmu.activate(space.root()) }.unwrap();
            assert_eq!(mmu.load(VA), 77);
            // SAFETY: it was loaded until now.
            unsafe { mmu.activate(before) }.unwrap();
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
            assert_eq!(mmu.stats().refused, 0);
        });
    }
}

fn make_unwritten_stray(mmu: &mut Mmu<Machine<'_>>, frames: &[Pfn]) {
    let area = mmu.vmap(frames).unwrap();
    mmu.vunmap(area).unwrap();
}

#[test]
fn hold_refs_defers_the_free_until_mappings_are_cleared() {
    with_guest(Policy::HoldRefs, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        make_stray(mmu, &[frame]);
        let free = mmu.free_frames();
        mmu.free_frame(frame);
        assert_eq!(mmu.free_frames(), free, "deferred");
        mmu.purge_vmap().unwrap();
        assert_eq!(mmu.free_frames(), free + 1, "free after the purge");
    });
}

#[test]
fn deferred_frames_are_allocated_when_no_other_is_free() {
    with_guest(Policy::HoldRefs, false, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        make_stray(mmu, &[frame]);
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
fn addresses_are_reused_only_after_a_flush() {
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
fn set_reuse_selects_the_newest_or_the_oldest_frame() {
    with_guest(Policy::Lazy, true, |mmu| {
        let (first, second) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        mmu.free_frame(first);
        mmu.free_frame(second);
        assert_eq!(mmu.alloc_frame(), Ok(second));
        mmu.set_reuse(Reuse::Oldest);
        assert_ne!(mmu.alloc_frame(), Ok(first), "others were freed earlier");
    });
}

#[test]
#[should_panic(expected = "is not for data")]
fn store_refuses_addresses_of_the_direct_map() {
    with_guest(Policy::Lazy, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        let page = mmu.direct_map_va(frame);
        mmu.store(page, 1);
    });
}

#[test]
#[should_panic(expected = "frame 0x0 is not for data")]
fn write_refuses_frames_of_the_builder() {
    with_guest(Policy::Lazy, true, |mmu| mmu.write(Pfn(0), 0, 1));
}

#[test]
fn kmap_clears_idle_slots_when_all_are_full() {
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
