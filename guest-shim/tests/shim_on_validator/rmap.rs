//! The reverse map, compared with the validator: it agrees with a search of the tables, and an
//! unmapped frame has no mapping.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::dma::{Device, Object};
use pinfold_guest::hypercall::Errno;
use pinfold_guest::mmu::{AddressSpace, Error, Leaf, Mmu};
use pinfold_guest::rmap::Difference;
use pinfold_guest::vmap::Region;
use proptest::prelude::*;

const VA: Vaddr = Vaddr(0x0000_1234_5678_9000);

fn agree(mmu: &mut Mmu<Machine<'_>>, frames: &[Pfn]) {
    assert_eq!(mmu.check_rmap(frames), Ok(Vec::new()));
}

/// An address space that maps these frames from an address on.
fn space_of(mmu: &mut Mmu<Machine<'_>>, va: Vaddr, frames: &[Pfn]) -> AddressSpace {
    let mut tables = mmu.alloc_root().unwrap();
    for (page, &frame) in (0..).zip(frames) {
        let leaf = Leaf { frame, writable: page % 2 == 0, user: true };
        mmu.map_in(&mut tables, va.page(page), leaf).unwrap();
    }
    mmu.pin(tables).unwrap()
}

fn drop_space(mmu: &mut Mmu<Machine<'_>>, space: AddressSpace) {
    let tables = mmu.unpin(space).unwrap();
    mmu.free_tables(tables);
}

/// Runs a function on an address space.
fn on(mmu: &mut Mmu<Machine<'_>>, space: &AddressSpace, work: impl FnOnce(&mut Mmu<Machine<'_>>)) {
    // SAFETY: the root was made by `alloc_root`.
    let before = unsafe { mmu.activate(space.root()) }.unwrap();
    work(mmu);
    // SAFETY: it was loaded until now.
    unsafe { mmu.activate(before) }.unwrap();
}

#[test]
fn every_mapping_of_a_moved_frame_maps_the_new_one() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            mmu.enable_rmap().unwrap();
            let frames: Vec<Pfn> = (0..3).map(|_| mmu.alloc_frame().unwrap()).collect();
            let spaces = [VA, Vaddr(VA.0 << 1)].map(|va| (va, space_of(mmu, va, &frames)));
            let area = mmu.vmap(&frames).unwrap();
            let mapped = mmu.kmap(frames[1]).unwrap();
            // Dead mappings too.
            let dead = mmu.vmap_small(Region::default(), 0, &frames).unwrap();
            mmu.vunmap(dead).unwrap();
            mmu.copy_frame(0, frames[0], frames[2]).unwrap();
            for (page, &frame) in (0..).zip(&frames) {
                mmu.store(area.start().page(page), 100 + frame.0);
            }
            agree(mmu, &frames);
            let to: Vec<Pfn> = (0..3).map(|_| mmu.alloc_frame().unwrap()).collect();
            let flushes = mmu.stats().flushes;

            let mut gone = mmu.unmap_everywhere(&frames).unwrap();
            let lazy = if policy == pinfold_guest::vmap::Policy::Eager { 0 } else { 3 };
            assert_eq!(gone.cleared(), 6 + 3 + 1 + 2 + lazy, "{policy}");
            gone.copy(&to);
            assert_eq!(gone.map(&to), Ok(6 + 3 + 1));

            assert_eq!(mmu.stats().flushes - flushes, 1, "one flush for all: {policy}");
            agree(mmu, &frames);
            agree(mmu, &to);
            for (page, &frame) in (0..).zip(&frames) {
                let wanted = 100 + frame.0;
                assert_eq!(mmu.load(area.start().page(page)), wanted);
                for (va, space) in &spaces {
                    on(mmu, space, |mmu| assert_eq!(mmu.load(va.page(page)), wanted));
                }
            }
            mmu.store(mapped.va(), 7);
            assert_eq!(mmu.load(area.start().page(1)), 7);
            // The old frames have no mapping: they can be reused for anything at once.
            let free = mmu.free_frames();
            for &frame in &frames {
                mmu.free_frame(frame);
            }
            assert_eq!(mmu.free_frames(), free + 3, "{policy}");
            let tables = mmu.alloc_tables(3).unwrap();
            let space = mmu.pin(tables).unwrap();
            drop_space(mmu, space);
            // The new frames are in use.
            assert!(mmu.stats().refused == 0);
            mmu.vunmap(area).unwrap();
            mmu.kunmap(mapped);
            for (_, space) in spaces {
                drop_space(mmu, space);
            }
            agree(mmu, &to);
        });
    }
}

#[test]
fn an_unmapped_frame_has_no_mapping() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, true, |mmu| {
        mmu.enable_rmap().unwrap();
        let frame = mmu.alloc_frame().unwrap();
        let area = mmu.vmap(&[frame]).unwrap();
        mmu.store(area.start(), 1);
        drop(mmu.unmap_everywhere(&[frame]).unwrap());
        assert_eq!(
            mmu.platform().read_word(area.start()),
            None,
            "it stays away when nothing is said"
        );
        agree(mmu, &[frame]);
        mmu.vunmap(area).unwrap();
        mmu.purge_vmap().unwrap();
        agree(mmu, &[frame]);
    });
}

#[test]
fn mappings_made_before_the_map_is_enabled_are_in_it() {
    with_guest(pinfold_guest::vmap::Policy::Targeted, true, |mmu| {
        let frames = [mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap()];
        let (area, dead) = (mmu.vmap(&frames).unwrap(), mmu.vmap(&frames).unwrap());
        let mapped = mmu.kmap(frames[0]).unwrap();
        mmu.vunmap(dead).unwrap();
        mmu.enable_rmap().unwrap();
        agree(mmu, &frames);
        assert_eq!(mmu.unmap_everywhere(&frames).unwrap().cleared(), 3);
        mmu.kunmap(mapped);
        mmu.vunmap(area).unwrap();
    });
}

#[test]
fn mappings_in_unpinned_tables_are_moved_too() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, true, |mmu| {
        mmu.enable_rmap().unwrap();
        let (from, to) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        mmu.write(from, 0, 5);
        mmu.write(to, 0, 6);
        let mut tables = mmu.alloc_root().unwrap();
        mmu.map_in(&mut tables, VA, Leaf::kernel(from)).unwrap();
        agree(mmu, &[from]);
        assert_eq!(mmu.unmap_everywhere(&[from]).unwrap().map(&[to]), Ok(1));
        let space = mmu.pin(tables).unwrap();
        agree(mmu, &[from, to]);
        on(mmu, &space, |mmu| assert_eq!(mmu.load(VA), 6));
        drop_space(mmu, space);
    });
}

#[test]
fn check_rmap_names_a_mapping_that_the_map_lacks() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, true, |mmu| {
        mmu.enable_rmap().unwrap();
        let (from, to) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        let area = mmu.vmap(&[from]).unwrap();
        let space = space_of(mmu, VA, &[from]);
        let forgotten = mmu.forget_mapping(from, VA).expect("it was known");
        let found = mmu.check_rmap(&[from]).unwrap();
        assert!(
            matches!(found[..], [Difference::Missing { va: Some(VA), frame, .. }] if frame == from),
            "{found:?}"
        );
        assert!(found[0].to_string().starts_with("RMAP missing va=0x0000123456789000 "));
        assert_eq!(mmu.unmap_everywhere(&[from]).unwrap().map(&[to]), Ok(1));
        // A write through it is lost.
        on(mmu, &space, |mmu| mmu.store(VA, 99));
        assert_ne!(mmu.load(area.start()), 99);
        mmu.recall_mapping(forgotten);
        agree(mmu, &[from, to]);
        assert_eq!(mmu.unmap_everywhere(&[from]).unwrap().map(&[to]), Ok(1));
        on(mmu, &space, |mmu| mmu.store(VA, 98));
        assert_eq!(mmu.load(area.start()), 98);
        // A mapping that the tables do not have.
        let forgotten = mmu.forget_mapping(to, VA).expect("it was known");
        mmu.set_leaf(&space, VA, None).unwrap();
        mmu.recall_mapping(forgotten);
        let found = mmu.check_rmap(&[to]).unwrap();
        assert!(matches!(found[..], [Difference::Surplus { va: VA, .. }]), "{found:?}");
        drop_space(mmu, space);
        mmu.vunmap(area).unwrap();
    });
}

#[test]
fn linked_and_unlinked_tables_are_tracked() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, true, |mmu| {
        mmu.enable_rmap().unwrap();
        let mut tables = mmu.alloc_root().unwrap();
        let at = Vaddr(0x0000_1234_4000_0000);
        mmu.alloc_intermediate_tables(&mut tables, at).unwrap();
        let mut space = mmu.pin(tables).unwrap();
        let mut object = Object::new(mmu, 20).unwrap();
        let frames = object.frames().to_vec();
        object.map(mmu, &mut space, at).unwrap();
        agree(mmu, &frames);
        assert_eq!(mmu.unmap_everywhere(&frames[..1]).unwrap().map(&frames[..1]), Ok(1));
        agree(mmu, &frames);
        object.unmap(mmu, &mut space).unwrap();
        agree(mmu, &frames);
        object.free(mmu);
        drop_space(mmu, space);
    });
}

#[test]
fn a_frame_in_io_is_not_moved() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, true, |mmu| {
        mmu.enable_rmap().unwrap();
        let disk = Device::new(mmu, "disk0", 64).unwrap();
        let frame = mmu.alloc_frame().unwrap();
        let space = space_of(mmu, VA, &[frame]);
        let io = disk.get_user_pages(mmu, &space, VA, 1).unwrap();
        let refused = mmu.unmap_everywhere(&[frame]).map(drop).unwrap_err();
        assert_eq!(refused, Error::InIo { frame, holder: "disk0" });
        disk.end(mmu, io).unwrap();
        agree(mmu, &[frame]);
        let gone = mmu.unmap_everywhere(&[frame]).unwrap();
        assert_eq!(gone.cleared(), 2, "the space's, and what the transfer left");
        drop(gone);
        drop_space(mmu, space);
    });
}

#[test]
fn moving_works_without_find_aliases() {
    with_guest(pinfold_guest::vmap::Policy::Lazy, false, |mmu| {
        mmu.enable_rmap().unwrap();
        let (from, to) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
        let area = mmu.vmap(&[from]).unwrap();
        mmu.store(area.start(), 3);
        let mut gone = mmu.unmap_everywhere(&[from]).unwrap();
        gone.copy(&[to]);
        gone.map(&[to]).unwrap();
        assert_eq!((mmu.load(area.start()), mmu.read(to, 0)), (3, 3));
        let error: Errno = mmu.check_rmap(&[to]).unwrap_err();
        assert_eq!(error, pinfold_abi::errno::Errno::ENOSYS);
        mmu.vunmap(area).unwrap();
    });
}

#[derive(Clone, Debug)]
enum Step {
    Vmap(usize, bool),
    Vunmap(usize),
    Kmap(usize),
    Kunmap(usize),
    Copy(usize, usize),
    AddressSpace(usize, u64),
    Leaf(usize, Option<usize>),
    Unpin(usize),
    Repin(usize),
    Drop(usize),
    Move(usize, usize),
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<usize>;
    prop_oneof![
        4 => (n(), any::<bool>()).prop_map(|(from, small)| Step::Vmap(from, small)),
        3 => n().prop_map(Step::Vunmap),
        3 => n().prop_map(Step::Kmap),
        3 => n().prop_map(Step::Kunmap),
        1 => (n(), n()).prop_map(|(from, to)| Step::Copy(from, to)),
        3 => (n(), any::<u64>()).prop_map(|(from, at)| Step::AddressSpace(from, at)),
        2 => (n(), prop::option::of(n())).prop_map(|(space, to)| Step::Leaf(space, to)),
        1 => n().prop_map(Step::Unpin),
        1 => n().prop_map(Step::Repin),
        1 => n().prop_map(Step::Drop),
        4 => (n(), 1..4usize).prop_map(|(from, count)| Step::Move(from, count)),
        1 => Just(Step::Purge),
    ]
}

/// Frames that are mapped at several addresses.
const FRAMES: usize = 8;

fn play(steps: &[Step], policy: usize) {
    with_guest(POLICIES[policy], true, |mmu| {
        mmu.enable_rmap().unwrap();
        let mut frames: Vec<Pfn> = (0..FRAMES).map(|_| mmu.alloc_frame().unwrap()).collect();
        let (mut areas, mut slots, mut spaces, mut trees) = (vec![], vec![], vec![], vec![]);
        for step in steps {
            match *step {
                Step::Vmap(from, small) => {
                    let some = &frames[from % FRAMES..];
                    let area = if small {
                        mmu.vmap_small(Region::default(), from % 2, some)
                    } else {
                        mmu.vmap(some)
                    };
                    areas.extend(area.ok());
                }
                Step::Vunmap(which) if !areas.is_empty() => {
                    let area = areas.swap_remove(which % areas.len());
                    mmu.vunmap(area).unwrap();
                }
                Step::Kmap(which) => slots.extend(mmu.kmap(frames[which % FRAMES]).ok()),
                Step::Kunmap(which) if !slots.is_empty() => {
                    let slot = slots.swap_remove(which % slots.len());
                    mmu.kunmap(slot);
                }
                Step::Copy(from, to) if from % FRAMES != to % FRAMES => {
                    mmu.copy_frame(0, frames[from % FRAMES], frames[to % FRAMES]).unwrap();
                }
                Step::AddressSpace(from, at) if spaces.len() + trees.len() < 4 => {
                    let va = Vaddr(at & 0x7fff_ff00_0000);
                    let space = space_of(mmu, va, &frames[from % FRAMES..]);
                    spaces.push((space, va));
                }
                Step::Leaf(which, to) if !spaces.is_empty() => {
                    let (space, va) = &spaces[which % spaces.len()];
                    let leaf = to.map(|to| Leaf::kernel(frames[to % FRAMES]));
                    mmu.set_leaf(space, *va, leaf).unwrap();
                }
                Step::Unpin(which) if !spaces.is_empty() => {
                    let (space, va) = spaces.swap_remove(which % spaces.len());
                    trees.push((mmu.unpin(space).unwrap(), va));
                }
                Step::Repin(which) if !trees.is_empty() => {
                    let (tables, va) = trees.swap_remove(which % trees.len());
                    spaces.push((mmu.pin(tables).unwrap(), va));
                }
                Step::Drop(which) if !trees.is_empty() => {
                    let (tables, _) = trees.swap_remove(which % trees.len());
                    mmu.free_tables(tables);
                }
                Step::Move(from, count) => {
                    let from = from % FRAMES;
                    let count = count.min(FRAMES - from);
                    let to: Vec<Pfn> = (0..count).map(|_| mmu.alloc_frame().unwrap()).collect();
                    let old = frames[from..from + count].to_vec();
                    let words: Vec<u64> = old.iter().map(|&frame| mmu.read(frame, 0)).collect();
                    let mut gone = mmu.unmap_everywhere(&old).unwrap();
                    gone.copy(&to);
                    gone.map(&to).unwrap();
                    frames[from..from + count].copy_from_slice(&to);
                    for ((&old, &new), word) in old.iter().zip(&to).zip(words) {
                        assert_eq!(mmu.read(new, 0), word);
                        mmu.free_frame(old);
                    }
                    agree(mmu, &old);
                }
                Step::Purge => {
                    mmu.purge_vmap().unwrap();
                    mmu.purge_kmap().unwrap();
                }
                _ => {}
            }
            agree(mmu, &frames);
        }
        assert_eq!(mmu.stats().refused, 0);
        let trees = trees.into_iter().map(|(tables, _)| tables).collect::<Vec<_>>();
        for (space, _) in spaces {
            drop_space(mmu, space);
        }
        for tables in trees {
            mmu.free_tables(tables);
        }
        agree(mmu, &frames);
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 20 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_map_agrees_with_the_tables(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 10 } else { 60 }),
        policy in 0..POLICIES.len(),
    ) {
        play(&steps, policy);
    }
}
