//! Buffers that are swapped while their former frames become page tables.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer::{BufferId, Buffers, Corrupt, CpuContext, Error, Moment, Slots};
use pinfold_guest::mmu::{self, Mmu};
use pinfold_guest::pageable::{self, InMemory, Pager};
use pinfold_guest::vmap::Policy;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// Frames of the buffers.
const LIMIT: usize = 10;
/// Frames of the pager.
const STORAGE: usize = 8;

/// The only CPU. It can use the atomic slots of two.
struct Alone<'a, 'm> {
    owner: RefCell<(&'a mut Mmu<Machine<'m>>, Pager<InMemory>)>,
    cpu: Cell<usize>,
}

impl<'m> CpuContext for Alone<'_, 'm> {
    type Platform = Machine<'m>;
    type Store = InMemory;

    fn cpu_id(&self) -> usize {
        self.cpu.get()
    }

    fn with_mmu<R>(
        &self,
        work: impl FnOnce(&mut Mmu<Machine<'m>>, &mut Pager<InMemory>) -> R,
    ) -> R {
        let (mmu, pager) = &mut *self.owner.borrow_mut();
        work(mmu, pager)
    }

    fn load(&self, va: Vaddr) -> u64 {
        self.owner.borrow().0.load(va)
    }

    fn store(&self, va: Vaddr, word: u64) {
        self.owner.borrow_mut().0.store(va, word);
    }
}

fn with_cpu(policy: Policy, room: usize, test: impl FnOnce(&Alone<'_, '_>)) {
    with_guest(policy, true, |mmu| {
        let region = mmu.open_region("pageable", 64).expect("free addresses");
        let free = mmu.free_frames();
        let pager = Pager::new(InMemory::new(room), STORAGE, region);
        let cpu = Alone { owner: RefCell::new((mmu, pager)), cpu: Cell::new(0) };
        test(&cpu);
        cpu.with_mmu(|mmu, pager| {
            assert_eq!(pager.resident(), 0);
            mmu.purge_vmap().unwrap();
            assert_eq!(mmu.free_frames(), free);
        });
    });
}

/// Makes a page table of the frame that was freed last.
fn make_a_table(cpu: &Alone<'_, '_>, skips_before_pin: bool) -> Result<(), mmu::Error> {
    cpu.with_mmu(|mmu, _| {
        let tables = mmu.alloc_tables(1).expect("frames are left");
        let pinned =
            if skips_before_pin { mmu.pin_without_before_pin(tables) } else { mmu.pin(tables) };
        match pinned {
            Ok(space) => {
                let tables = mmu.unpin(space).unwrap();
                mmu.free_tables(tables);
                Ok(())
            }
            Err((tables, error)) => {
                mmu.free_tables(tables);
                Err(error)
            }
        }
    })
}

#[test]
fn a_buffer_keeps_its_words_through_the_store() {
    for slots in [Slots::Kept, Slots::Cleared] {
        with_cpu(Policy::Lazy, 100, |cpu| {
            let mut buffers = Buffers::new(LIMIT, slots);
            let ids: Vec<BufferId> =
                (0..8).map(|seed| buffers.create(cpu, 3, seed).unwrap()).collect();
            assert!(buffers.resident() <= LIMIT, "the others were swapped out");
            for round in 0..3 {
                for &id in &ids {
                    cpu.cpu.set(round % 2);
                    buffers.check(cpu, id).unwrap();
                    assert!(buffers.frames(id).iter().all(Option::is_some));
                    assert!(buffers.resident() <= LIMIT);
                }
            }
            let done = cpu.with_mmu(|_, pager| pager.stats());
            assert!(done.paged_out > 10 && done.paged_in > 10, "{done:?}");
            let done = buffers.stats();
            assert!(done.out > 60 && done.back > 60, "{done:?}");
            for id in ids {
                buffers.free(cpu, id).unwrap();
                assert_eq!(buffers.free(cpu, id), Err(Error::Gone(id)));
                assert_eq!(buffers.check(cpu, id), Err(Error::Gone(id)));
            }
        });
    }
}

#[test]
fn a_kept_slot_is_an_alias_until_a_pin_clears_it() {
    for slots in [Slots::Kept, Slots::Cleared] {
        with_cpu(Policy::Lazy, 100, |cpu| {
            let mut buffers = Buffers::new(LIMIT, slots);
            let id = buffers.create(cpu, 2, 1).unwrap();
            cpu.with_mmu(|mmu, _| mmu.purge_kmap()).unwrap();
            buffers.swap_out(cpu, id).unwrap();
            assert_eq!(make_a_table(cpu, true).is_err(), slots == Slots::Kept);
            make_a_table(cpu, false).unwrap();
            buffers.check(cpu, id).unwrap();
            buffers.free(cpu, id).unwrap();
        });
    }
}

#[test]
fn a_write_through_a_kept_slot_is_reported_with_its_frame() {
    with_cpu(Policy::Lazy, 100, |cpu| {
        let mut buffers = Buffers::new(LIMIT, Slots::Kept);
        let old = buffers.create(cpu, 1, 1).unwrap();
        let freed = buffers.frames(old)[0];
        buffers.swap_out(cpu, old).unwrap();
        let [stale, stored] = cpu.with_mmu(|mmu, _| mmu.kmap_pair(0));
        let new = buffers.create(cpu, 1, 2).unwrap();
        assert_eq!(buffers.frames(new)[0], freed, "freed last, allocated first");
        cpu.store(Vaddr(stale.0 + 8), 1);
        let found = buffers.check(cpu, new).expect_err("a wrong word");
        let Error::Corrupt(Corrupt { buffer, page: 0, frame, moment: Moment::Use, .. }) = found
        else {
            panic!("{found}")
        };
        assert_eq!((buffer, Some(frame)), (new, freed));
        // Swapping out compares the checksum too; the page stays where it is.
        let found = buffers.swap_out(cpu, new).expect_err("the same word");
        assert!(matches!(found, Error::Corrupt(Corrupt { moment: Moment::Out, .. })), "{found}");
        assert_eq!(buffers.frames(new)[0], freed);
        buffers.write(cpu, new, 3).unwrap();
        buffers.check(cpu, new).unwrap();
        buffers.swap_out(cpu, new).unwrap();
        // So does swapping in.
        cpu.store(Vaddr(stored.0 + 16), 1);
        let found = buffers.swap_in(cpu, new).expect_err("another word");
        assert!(matches!(found, Error::Corrupt(Corrupt { moment: Moment::Back, .. })), "{found}");
        buffers.check(cpu, old).unwrap();
        for id in [old, new] {
            buffers.free(cpu, id).unwrap();
        }
    });
}

#[test]
#[should_panic(expected = "which is not mapped")]
fn a_write_through_a_cleared_slot_is_a_fault() {
    with_cpu(Policy::Lazy, 100, |cpu| {
        let mut buffers = Buffers::new(LIMIT, Slots::Cleared);
        let id = buffers.create(cpu, 1, 1).unwrap();
        buffers.swap_out(cpu, id).unwrap();
        let [stale, _] = cpu.with_mmu(|mmu, _| mmu.kmap_pair(0));
        cpu.store(stale, 1);
    });
}

#[test]
fn a_full_store_loses_no_page() {
    with_cpu(Policy::Lazy, 1, |cpu| {
        let mut buffers = Buffers::new(LIMIT, Slots::Kept);
        let first = buffers.create(cpu, 7, 1).unwrap();
        let second = buffers.create(cpu, 3, 2).unwrap();
        buffers.swap_out(cpu, first).unwrap();
        let full = Error::Storage(pageable::Error::Store(pageable::StoreError::Full));
        assert_eq!(buffers.swap_out(cpu, second), Err(full));
        assert_eq!(buffers.frames(second).iter().filter(|frame| frame.is_some()).count(), 1);
        buffers.check(cpu, second).unwrap();
        buffers.check(cpu, first).unwrap();
        for id in [first, second] {
            buffers.free(cpu, id).unwrap();
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, u64),
    Free(usize),
    Write(usize, u64),
    Check(usize),
    Out(usize),
    Back(usize),
    Cpu(usize),
    Table,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        3 => (0..6usize, 0..9u64).prop_map(|(pages, seed)| Step::Create(pages, seed)),
        1 => any().prop_map(Step::Free),
        3 => (any(), 0..9u64).prop_map(|(which, seed)| Step::Write(which, seed)),
        4 => any().prop_map(Step::Check),
        3 => any().prop_map(Step::Out),
        2 => any().prop_map(Step::Back),
        1 => (0..2usize).prop_map(Step::Cpu),
        4 => Just(Step::Table),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn swapped_buffers_keep_their_words(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 10 } else { 60 }),
        policy in 0..POLICIES.len(),
        cleared in any::<bool>(),
    ) {
        with_cpu(POLICIES[policy], 500, |cpu| {
            let slots = if cleared { Slots::Cleared } else { Slots::Kept };
            let mut buffers = Buffers::new(LIMIT, slots);
            let mut ids: Vec<BufferId> = Vec::new();
            for step in steps {
                let pick = |which: usize| which.checked_rem(ids.len()).map(|which| ids[which]);
                match step {
                    Step::Create(pages, seed) => {
                        ids.push(buffers.create(cpu, pages, seed).unwrap());
                    }
                    Step::Free(which) => {
                        let Some(id) = pick(which) else { continue };
                        buffers.free(cpu, id).unwrap();
                        ids.retain(|&other| other != id);
                    }
                    Step::Write(which, seed) => {
                        let Some(id) = pick(which) else { continue };
                        buffers.write(cpu, id, seed).unwrap();
                    }
                    Step::Check(which) => {
                        let Some(id) = pick(which) else { continue };
                        buffers.check(cpu, id).unwrap();
                    }
                    Step::Out(which) => {
                        let Some(id) = pick(which) else { continue };
                        buffers.swap_out(cpu, id).unwrap();
                        assert!(buffers.frames(id).iter().all(Option::is_none));
                    }
                    Step::Back(which) => {
                        let Some(id) = pick(which) else { continue };
                        buffers.swap_in(cpu, id).unwrap();
                        assert!(buffers.frames(id).iter().all(Option::is_some));
                    }
                    Step::Cpu(id) => cpu.cpu.set(id),
                    Step::Table => make_a_table(cpu, false).expect("the shim clears lazy mappings first"),
                }
            }
            cpu.with_mmu(|mmu, _| mmu.platform().audit());
            for id in ids {
                buffers.check(cpu, id).unwrap();
                buffers.free(cpu, id).unwrap();
            }
        });
    }
}
