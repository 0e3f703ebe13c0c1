//! Transfers that outlive the owner of their pages.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::dma::{Device, Io, Object, RUN_PAGES};
use pinfold_guest::mmu::{AddressSpace, Error, Leaf, Mmu};
use pinfold_guest::vmap::Policy;
use pinfold_validator::Cause;
use proptest::prelude::*;

/// Where runs are mapped.
const AT: Vaddr = Vaddr(0x0000_1234_4000_0000);
const DISK: &str = "dma:disk0";

/// An address space with tables for runs at [`AT`].
fn space(mmu: &mut Mmu<Machine<'_>>) -> AddressSpace {
    let mut tables = mmu.alloc_root().unwrap();
    mmu.alloc_intermediate_tables(&mut tables, AT).unwrap();
    mmu.pin(tables).unwrap()
}

fn end(mmu: &mut Mmu<Machine<'_>>, space: AddressSpace) {
    let tables = mmu.unpin(space).unwrap();
    mmu.free_tables(tables);
}

fn disk(mmu: &mut Mmu<Machine<'_>>) -> Device {
    Device::new(mmu, DISK, 64).unwrap()
}

#[test]
fn a_frame_freed_during_a_transfer_is_free_after_it() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let disk = disk(mmu);
            let mut space = space(mmu);
            let free = mmu.free_frames();
            let mut object = Object::new(mmu, 20).unwrap();
            object.map(mmu, &mut space, AT).unwrap();
            let frames = object.frames()[3..6].to_vec();
            let io = disk.get_user_pages(mmu, &space, AT.page(3), 3).unwrap();
            assert_eq!(io.frames(), frames);
            // The address space has the kernel's half, too.
            let direct_va = mmu.direct_map_va(frames[0]);
            let refused = disk.get_user_pages(mmu, &space, direct_va, 1).unwrap_err();
            assert_eq!(refused, Error::NotMapped(direct_va));
            assert_eq!(mmu.holders(frames[0]), [DISK]);
            object.unmap(mmu, &mut space).unwrap();
            object.free(mmu);
            assert_eq!(mmu.frames_in_io(), 3);
            // Allocating everything, for tables and for data, does not return them.
            let mut taken = Vec::new();
            while let Ok(tables) = mmu.alloc_tables(1) {
                assert!(!frames.contains(&tables.frames()[0]), "{policy}");
                taken.push(tables);
            }
            for (page, frame) in (0..).zip(&frames) {
                mmu.store(io.start().page(page), frame.0);
                assert_eq!(mmu.read(*frame, 0), frame.0);
            }
            for tables in taken {
                mmu.free_tables(tables);
            }
            disk.end(mmu, io).unwrap();
            assert!(mmu.holders(frames[0]).is_empty());
            mmu.purge_vmap().unwrap();
            assert_eq!((mmu.free_frames(), mmu.frames_in_io()), (free, 0), "{policy}");
            end(mmu, space);
        });
    }
}

#[test]
fn a_pin_of_a_frame_in_io_fails_and_names_the_device() {
    for pool in [0, 4] {
        with_guest(Policy::Lazy, true, |mmu| {
            mmu.set_table_pool(pool);
            let [disk, net] = [DISK, "dma:net0"].map(|name| Device::new(mmu, name, 64).unwrap());
            let tables = mmu.alloc_tables(1).unwrap();
            let frame = tables.frames()[0];
            let first = disk.begin(mmu, &[frame]).unwrap();
            let second = net.begin(mmu, &[frame]).unwrap();
            let (tables, error) = mmu.pin(tables).expect_err("two hold it");
            assert_eq!(error, Error::InIo { frame, holder: DISK });
            disk.end(mmu, first).unwrap();
            let (tables, error) = mmu.pin(tables).expect_err("one does");
            assert_eq!(error, Error::InIo { frame, holder: "dma:net0" });
            assert_eq!(std::format!("{error}"), std::format!("dma:net0 holds frame {frame}"));
            // Tables of the pool go back there; this one does not.
            mmu.free_tables(tables);
            assert_eq!(mmu.frames_in_io(), 1);
            net.end(mmu, second).unwrap();
            assert_eq!(mmu.frames_in_io(), 0);
            assert_eq!(mmu.stats().refused, 0, "the hypervisor refused nothing");
        });
    }
}

#[test]
fn without_references_the_hypervisor_refuses_the_pin() {
    with_guest(Policy::Lazy, true, |mmu| {
        let disk = disk(mmu);
        let frame = mmu.alloc_frame().unwrap();
        let io = disk.begin_without_references(mmu, &[frame]).unwrap();
        mmu.free_frame(frame);
        let tables = mmu.alloc_tables(1).unwrap();
        assert_eq!(tables.frames(), [frame], "freed last, allocated first");
        let tables = mmu.pin_without_before_pin(tables).expect_err("the device can write to it").0;
        assert!(matches!(mmu.platform().last_refusal, Some(Cause::WritableAlias)));
        let (tables, error) = mmu.pin(tables).expect_err("the shim sees the mapping");
        assert_eq!(error, Error::InUse(io.start()));
        disk.end(mmu, io).unwrap();
        let space = mmu.pin(tables).unwrap();
        end(mmu, space);
    });
}

#[test]
fn get_user_pages_refuses_pages_that_are_not_writable() {
    with_guest(Policy::Lazy, true, |mmu| {
        let disk = disk(mmu);
        let mut tables = mmu.alloc_root().unwrap();
        let frames: Vec<Pfn> = (0..2).map(|_| mmu.alloc_frame().unwrap()).collect();
        for (page, (&frame, writable)) in (0..).zip(frames.iter().zip([true, false])) {
            mmu.map_in(&mut tables, AT.page(page), Leaf { frame, writable, user: true }).unwrap();
        }
        let space = mmu.pin(tables).unwrap();
        let io = disk.get_user_pages(mmu, &space, AT, 1).unwrap();
        for page in 1..5 {
            let refused = disk.get_user_pages(mmu, &space, AT, page + 1).unwrap_err();
            assert_eq!(refused, Error::NotMapped(AT.page(1)));
            let va = AT.page(page);
            let refused = disk.get_user_pages(mmu, &space, va, 1).unwrap_err();
            assert_eq!(refused, Error::NotMapped(va));
        }
        assert_eq!(mmu.holders(frames[0]), [DISK], "a refused transfer has no references");
        disk.end(mmu, io).unwrap();
        end(mmu, space);
        for frame in frames {
            mmu.free_frame(frame);
        }
    });
}

#[test]
fn a_run_is_mapped_and_unmapped_with_one_call() {
    with_guest(Policy::Lazy, true, |mmu| {
        let at_first = mmu.free_frames();
        let mut space = space(mmu);
        let free = mmu.free_frames();
        // With more than one run this machine would have no frames left for tables.
        let pages = if cfg!(miri) { 20 } else { RUN_PAGES };
        let mut object = Object::new(mmu, pages).unwrap();
        for (at, place) in [(AT.page(1), "the middle"), (Vaddr(0x1000_0000), "nowhere")] {
            assert_eq!(object.map(mmu, &mut space, at), Err(Error::NoRoom), "{place}");
        }
        let before = mmu.platform().calls;
        object.map(mmu, &mut space, AT).unwrap();
        assert!(mmu.platform().calls - before <= 2, "the direct map, and the entry");
        let mut other = Object::new(mmu, 1).unwrap();
        assert_eq!(other.map(mmu, &mut space, AT), Err(Error::NoRoom), "the entry is in use");
        other.free(mmu);
        // SAFETY: the root was made by `alloc_root`.
        let root = unsafe { mmu.activate(space.root()) }.unwrap();
        for (page, frame) in (0..).zip(object.frames()) {
            mmu.store(AT.page(page), frame.0 + 7);
        }
        for frame in object.frames() {
            assert_eq!(mmu.read(*frame, 0), frame.0 + 7);
        }
        let forced = mmu.platform().forced_flushes();
        object.unmap(mmu, &mut space).unwrap();
        assert_eq!(mmu.platform().forced_flushes(), forced, "the shim has flushed");
        assert_eq!(mmu.platform().read_word(AT), None, "the TLB has no entry");
        // SAFETY: it was loaded until now.
        unsafe { mmu.activate(root) }.unwrap();
        object.free(mmu);
        assert_eq!(mmu.free_frames(), free);
        assert!(matches!(mmu.unlink_leaf_table(&mut space, AT), Err(Error::NotMapped(AT))));
        end(mmu, space);
        assert_eq!(mmu.free_frames(), at_first, "each table was freed once");
    });
}

#[test]
fn mapping_a_run_clears_lazy_mappings_of_its_table() {
    for policy in POLICIES {
        with_guest(policy, true, |mmu| {
            let mut space = space(mmu);
            let frame = mmu.alloc_frame().unwrap();
            let area = mmu.vmap(&[frame]).unwrap();
            mmu.vunmap(area).unwrap();
            let data = mmu.alloc_frame().unwrap();
            mmu.free_frame(frame);
            let mut run = mmu.alloc_tables(1).unwrap();
            mmu.map_in(&mut run, AT, Leaf::kernel(data)).unwrap();
            mmu.link_subtree_at(&mut space, AT, run).unwrap();
            let run = mmu.unlink_leaf_table(&mut space, AT).unwrap();
            mmu.free_tables(run);
            mmu.free_frame(data);
            end(mmu, space);
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Object(u64),
    Map(usize),
    Unmap(usize),
    Free(usize),
    Begin(usize, u64, u64),
    Write(usize),
    End(usize),
    Table,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        3 => (1..9u64).prop_map(Step::Object),
        3 => any().prop_map(Step::Map),
        2 => any().prop_map(Step::Unmap),
        2 => any().prop_map(Step::Free),
        5 => (any(), 0..8u64, 1..4u64).prop_map(|(which, page, n)| Step::Begin(which, page, n)),
        4 => any().prop_map(Step::Write),
        3 => any().prop_map(Step::End),
        4 => Just(Step::Table),
    ]
}

/// The objects with their addresses, and the transfers with what each wrote last.
#[derive(Default)]
struct Guest {
    objects: Vec<(Object, Option<Vaddr>)>,
    running: Vec<(Io, u64)>,
    stamp: u64,
}

impl Guest {
    fn step(
        &mut self,
        mmu: &mut Mmu<Machine<'_>>,
        disk: Device,
        space: &mut AddressSpace,
        step: Step,
    ) {
        let pick = |which: usize| which.checked_rem(self.objects.len());
        match step {
            Step::Object(pages) => {
                // Frames in a transfer are not allocated again, so all of these are new.
                let object = Object::new(mmu, pages).unwrap();
                let mut held = self.running.iter().filter(|(io, _)| {
                    io.frames().iter().any(|frame| object.frames().contains(frame))
                });
                assert!(held.next().is_none(), "a frame in a transfer was allocated");
                self.objects.push((object, None));
            }
            Step::Map(which) => {
                let Some(which) = pick(which) else { return };
                // Sixteen places for objects.
                let at = AT.page(which as u64 % 16 * RUN_PAGES);
                let taken = self.objects.iter().any(|(_, place)| *place == Some(at));
                let (object, place) = &mut self.objects[which];
                if place.is_none() && !taken {
                    object.map(mmu, space, at).unwrap();
                    *place = Some(at);
                }
            }
            Step::Unmap(which) => {
                let Some(which) = pick(which) else { return };
                let (object, place) = &mut self.objects[which];
                if place.take().is_some() {
                    object.unmap(mmu, space).unwrap();
                }
            }
            Step::Free(which) => {
                let Some(which) = pick(which) else { return };
                if self.objects[which].1.is_none() {
                    self.objects.swap_remove(which).0.free(mmu);
                }
            }
            Step::Begin(which, page, pages) => {
                let Some(which) = pick(which) else { return };
                let (object, Some(at)) = &self.objects[which] else { return };
                let end = page + pages;
                match disk.get_user_pages(mmu, space, at.page(page), pages) {
                    Ok(io) => {
                        let range = page as usize..end as usize;
                        assert_eq!(Some(io.frames()), object.frames().get(range));
                        self.running.push((io, 0));
                    }
                    Err(Error::NotMapped(_)) => assert!(end > object.frames().len() as u64),
                    Err(error) => assert_eq!(error, Error::NoRoom),
                }
            }
            Step::Write(which) => {
                let Some(which) = which.checked_rem(self.running.len()) else { return };
                self.stamp += 1;
                let mine: Vec<Pfn> = self.running[which].0.frames().to_vec();
                for (io, last) in &mut self.running {
                    // Two transfers may have the same page: the last write counts.
                    if io.frames().iter().any(|frame| mine.contains(frame)) {
                        *last = 0;
                    }
                }
                let (io, last) = &mut self.running[which];
                *last = self.stamp;
                for page in 0..mine.len() as u64 {
                    mmu.store(io.start().page(page), self.stamp << 1);
                }
            }
            Step::End(which) => {
                let Some(which) = which.checked_rem(self.running.len()) else { return };
                let (io, last) = self.running.swap_remove(which);
                for (page, frame) in (0..).zip(io.frames()) {
                    let word = mmu.load(io.start().page(page));
                    assert!(last == 0 || word == last << 1, "another write reached {frame}");
                }
                disk.end(mmu, io).unwrap();
            }
            Step::Table => {
                let tables = mmu.alloc_tables(1).unwrap();
                let pinned =
                    mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("refused: {error}"));
                let tables = mmu.unpin(pinned).unwrap();
                mmu.free_tables(tables);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_in_io_has_no_other_owner(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 100 }),
        policy in 0..POLICIES.len(),
        pool in 0..5usize,
    ) {
        with_guest(POLICIES[policy], true, |mmu| {
            mmu.set_table_pool(pool);
            let disk = Device::new(mmu, DISK, 128).unwrap();
            let mut space = space(mmu);
            mmu.purge_vmap().unwrap();
            let free = mmu.free_frames();
            let mut guest = Guest::default();
            for (number, step) in steps.into_iter().enumerate() {
                guest.step(mmu, disk, &mut space, step);
                if number % 16 == 0 {
                    mmu.platform().audit();
                }
            }
            for (mut object, place) in guest.objects {
                if place.is_some() {
                    object.unmap(mmu, &mut space).unwrap();
                }
                object.free(mmu);
            }
            for (io, _) in guest.running {
                disk.end(mmu, io).unwrap();
            }
            mmu.purge_vmap().unwrap();
            assert_eq!((mmu.free_frames(), mmu.frames_in_io()), (free, 0));
            assert_eq!(mmu.stats().refused, 0);
            end(mmu, space);
        });
    }
}
