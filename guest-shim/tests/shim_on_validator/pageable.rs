//! Pageable objects against a model of a few lines, while their former frames become page tables.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::mmu::{self, Mmu};
use pinfold_guest::pageable::{
    Error, InMemory, ObjectId, PageId, Pager, Rule, Store, StoreError, View, Words,
};
use pinfold_guest::vmap::Policy;
use proptest::prelude::*;
use std::ops::Range;

/// Pages with a frame at a time.
const LIMIT: usize = 12;
/// Pages in the store.
const ROOM: usize = 20;

type TestPager = Pager<InMemory>;

fn with_pager(policy: Policy, test: impl FnOnce(&mut Mmu<Machine<'_>>, &mut TestPager)) {
    with_guest(policy, true, |mmu| {
        let region = mmu.open_region("pageable", 128).expect("half of the range is free");
        let mut pager = Pager::new(InMemory::new(ROOM), LIMIT, region);
        test(mmu, &mut pager);
    });
}

fn broken<T>(rule: Rule) -> Result<T, Error> {
    Err(Error::Broken(rule))
}

#[test]
fn a_page_keeps_its_words_through_the_store() {
    with_pager(Policy::Lazy, |mmu, pager| {
        let id = pager.create(4).unwrap();
        pager.pin(mmu, id, 0..4).unwrap();
        let frame = pager.page(id, 2).unwrap();
        assert_eq!(mmu.read(frame, 511), 0, "a new page is all zeros");
        mmu.write(frame, 511, 77);
        pager.mark_dirty(id, 2..3).unwrap();
        pager.unpin(id, 0..4).unwrap();
        assert_eq!(pager.shrink(mmu, 10), Ok(4));
        assert_eq!(pager.resident(), 0);
        assert_eq!(pager.store().len(), 1, "only what is dirty is written");
        pager.pin(mmu, id, 1..3).unwrap();
        let frame = pager.page(id, 2).unwrap();
        assert_eq!(mmu.read(frame, 511), 77);
        let done = pager.stats();
        assert_eq!((done.zeroed, done.paged_in, done.paged_out, done.dropped), (5, 1, 1, 3));
        // It was not marked dirty, so it is dropped again: the store still has it.
        mmu.write(frame, 511, 78);
        pager.unpin(id, 1..3).unwrap();
        assert_eq!(pager.shrink(mmu, 10), Ok(2));
        pager.pin(mmu, id, 2..3).unwrap();
        assert_eq!(mmu.read(pager.page(id, 2).unwrap(), 511), 77);
        pager.unpin(id, 2..3).unwrap();
        pager.free(mmu, id).unwrap();
        assert!(pager.store().is_empty() && pager.resident() == 0);
    });
}

#[test]
fn a_broken_rule_is_named_and_nothing_is_done() {
    with_pager(Policy::Lazy, |mmu, pager| {
        assert_eq!(pager.create(0), broken(Rule::NotEmpty));
        let id = pager.create(4).unwrap();
        assert_eq!(pager.pin(mmu, id, 2..2), broken(Rule::NotEmpty));
        #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
        let backwards = 3..1;
        assert_eq!(pager.pin(mmu, id, backwards), broken(Rule::NotEmpty));
        assert_eq!(pager.pin(mmu, id, 3..5), broken(Rule::Within { pages: 4, end: 5 }));
        assert_eq!(pager.page(id, 3), broken(Rule::Pinned { page: 3 }));
        assert_eq!(pager.page(id, u64::MAX), broken(Rule::Within { pages: 4, end: u64::MAX }));
        assert_eq!(pager.unpin(id, 0..1), broken(Rule::Pinned { page: 0 }));
        pager.pin(mmu, id, 1..3).unwrap();
        assert_eq!(pager.mark_dirty(id, 1..4), broken(Rule::Pinned { page: 3 }));
        assert_eq!(pager.map(mmu, id, 0..3).err(), Some(Error::Broken(Rule::Pinned { page: 0 })));
        assert_eq!(pager.free(mmu, id), broken(Rule::Unpinned { page: 1 }));
        let view = pager.map(mmu, id, 2..3).unwrap();
        assert_eq!(pager.unpin(id, 1..3), broken(Rule::Unmapped { page: 2 }));
        pager.pin(mmu, id, 2..3).unwrap();
        pager.unpin(id, 1..3).unwrap();
        assert_eq!(pager.unpin(id, 2..3), broken(Rule::Unmapped { page: 2 }));
        pager.unmap(mmu, view).unwrap();
        pager.unpin(id, 2..3).unwrap();
        assert_eq!(pager.unpin(id, 2..3), broken(Rule::Pinned { page: 2 }));
        pager.free(mmu, id).unwrap();
        assert_eq!(pager.pin(mmu, id, 0..1), broken(Rule::Exists));
        assert_eq!(pager.free(mmu, id), broken(Rule::Exists));
    });
}

#[test]
fn pinned_pages_stay_and_used_pages_stay_longer() {
    with_pager(Policy::Lazy, |mmu, pager| {
        let [pinned, used, old] = [(); 3].map(|()| pager.create(4).unwrap());
        for id in [pinned, used, old] {
            pager.pin(mmu, id, 0..4).unwrap();
        }
        let frames: Vec<_> = (0..4).map(|page| pager.page(pinned, page).unwrap()).collect();
        pager.unpin(used, 0..4).unwrap();
        pager.unpin(old, 0..4).unwrap();
        // The hand passes once and takes the first page; from then on only `used` is used.
        assert_eq!(pager.shrink(mmu, 1), Ok(1));
        pager.pin(mmu, used, 0..4).unwrap();
        pager.unpin(used, 0..4).unwrap();
        assert_eq!(pager.shrink(mmu, 3), Ok(3));
        let held: Vec<_> = (0..4).map(|page| pager.page(pinned, page).unwrap()).collect();
        assert_eq!(held, frames);
        let before = pager.stats().zeroed;
        pager.pin(mmu, used, 0..4).unwrap();
        assert_eq!(pager.stats().zeroed, before, "all of it is there");
        pager.pin(mmu, old, 0..4).unwrap();
        assert_eq!(pager.stats().zeroed, before + 3, "and one page of the other one");
        assert_eq!(pager.shrink(mmu, 1), Ok(0));
        let more = pager.create(1).unwrap();
        assert_eq!(pager.pin(mmu, more, 0..1), Err(Error::AllPinned));
    });
}

/// A store that can be made to fail.
struct Broken {
    inner: InMemory,
    broken: bool,
}

impl Store for Broken {
    fn write(&mut self, page: PageId, words: &Words) -> Result<(), StoreError> {
        if self.broken { Err(StoreError::Full) } else { self.inner.write(page, words) }
    }

    fn read(&mut self, page: PageId, words: &mut Words) -> Result<(), StoreError> {
        if page.page == 1 { Err(StoreError::Missing) } else { self.inner.read(page, words) }
    }

    fn forget(&mut self, page: PageId) {
        self.inner.forget(page);
    }
}

#[test]
fn a_store_that_fails_costs_no_page_and_no_frame() {
    with_guest(Policy::Lazy, true, |mmu| {
        let region = mmu.open_region("pageable", 128).unwrap();
        let free = mmu.free_frames();
        for is_broken in [true, false] {
            let store = Broken { inner: InMemory::new(ROOM), broken: is_broken };
            let mut pager = Pager::new(store, LIMIT, region);
            let id = pager.create(2).unwrap();
            pager.pin(mmu, id, 0..2).unwrap();
            let frame = pager.page(id, 0).unwrap();
            mmu.write(frame, 0, 5);
            pager.mark_dirty(id, 0..2).unwrap();
            pager.unpin(id, 0..2).unwrap();
            if is_broken {
                assert_eq!(pager.shrink(mmu, 2), Err(Error::Store(StoreError::Full)));
                assert_eq!(pager.resident(), 2);
                pager.pin(mmu, id, 0..1).unwrap();
                assert_eq!(mmu.read(pager.page(id, 0).unwrap(), 0), 5);
            } else {
                assert_eq!(pager.shrink(mmu, 2), Ok(2));
                let lost = pager.pin(mmu, id, 0..2);
                assert_eq!(lost, Err(Error::Store(StoreError::Missing)));
                assert_eq!(pager.page(id, 0), broken(Rule::Pinned { page: 0 }));
                pager.pin(mmu, id, 0..1).unwrap();
            }
            pager.unpin(id, 0..1).unwrap();
            pager.free(mmu, id).unwrap();
        }
        assert_eq!(mmu.free_frames(), free);
    });
}

/// A page that is paged out while its view is dead becomes a page table.
#[test]
fn the_frame_of_an_unmapped_view_can_become_a_table() {
    for broken in [true, false] {
        with_pager(Policy::Lazy, |mmu, pager| {
            let id = pager.create(1).unwrap();
            pager.pin(mmu, id, 0..1).unwrap();
            let frame = pager.page(id, 0).unwrap();
            let view = pager.map(mmu, id, 0..1).unwrap();
            mmu.store(view.start(), 1 << 1);
            pager.mark_dirty(id, 0..1).unwrap();
            pager.unmap(mmu, view).unwrap();
            pager.unpin(id, 0..1).unwrap();
            assert_eq!(pager.shrink(mmu, 1), Ok(1));
            let mut tables = mmu.alloc_tables(1).unwrap();
            assert_eq!(tables.frames(), [frame], "freed last, allocated first");
            if broken {
                tables = mmu.pin_without_before_pin(tables).expect_err("an alias").0;
            }
            let space = mmu.pin(tables).unwrap();
            let tables = mmu.unpin(space).unwrap();
            mmu.free_tables(tables);
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u64),
    Free(usize),
    Pin(usize, Range<u64>),
    Unpin(usize, Range<u64>),
    Write(usize, u64),
    Use(usize, u64),
    Map(usize, Range<u64>),
    Unmap(usize),
    Through(usize),
    Shrink(usize),
    Table,
}

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..7u64, 0..5u64).prop_map(|(start, pages)| start..start + pages)
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        2 => (0..7u64).prop_map(Step::Create),
        1 => any().prop_map(Step::Free),
        6 => (any(), range()).prop_map(|(which, range)| Step::Pin(which, range)),
        5 => (any(), range()).prop_map(|(which, range)| Step::Unpin(which, range)),
        6 => (any(), 0..7u64).prop_map(|(which, page)| Step::Write(which, page)),
        9 => (any(), 0..6u64).prop_map(|(which, page)| Step::Use(which, page)),
        3 => (any(), range()).prop_map(|(which, range)| Step::Map(which, range)),
        3 => any().prop_map(Step::Unmap),
        4 => any().prop_map(Step::Through),
        2 => (0..6usize).prop_map(Step::Shrink),
        3 => Just(Step::Table),
    ]
}

/// The model of an object.
struct Model {
    id: ObjectId,
    /// A byte of each page.
    bytes: Vec<u8>,
    pins: Vec<u32>,
    views: Vec<u32>,
    gone: bool,
}

impl Model {
    fn check(&self, range: &Range<u64>) -> Result<Range<usize>, Rule> {
        let pages = self.bytes.len() as u64;
        match range {
            _ if self.gone => Err(Rule::Exists),
            range if range.is_empty() => Err(Rule::NotEmpty),
            range if range.end > pages => Err(Rule::Within { pages, end: range.end }),
            range => Ok(range.start as usize..range.end as usize),
        }
    }

    fn pinned(&self, range: &Range<u64>) -> Result<Range<usize>, Rule> {
        let range = self.check(range)?;
        match range.clone().find(|&page| self.pins[page] == 0) {
            Some(page) => Err(Rule::Pinned { page: page as u64 }),
            None => Ok(range),
        }
    }
}

#[derive(Default)]
struct Models {
    objects: Vec<Model>,
    views: Vec<(View, usize)>,
    byte: u8,
}

impl Models {
    fn step(&mut self, mmu: &mut Mmu<Machine<'_>>, pager: &mut TestPager, step: Step) {
        let count = self.objects.len();
        let pick = |which: usize| which.checked_rem(count);
        match step {
            Step::Create(0) => assert_eq!(pager.create(0), broken(Rule::NotEmpty)),
            Step::Create(pages) => {
                let id = pager.create(pages).unwrap();
                let none = vec![0; pages as usize];
                let bytes = vec![0; pages as usize];
                let model = Model { id, bytes, pins: none.clone(), views: none, gone: false };
                self.objects.push(model);
            }
            Step::Free(which) => {
                let Some(which) = pick(which) else { return };
                let model = &mut self.objects[which];
                let pinned = model.pins.iter().position(|&pins| pins > 0);
                let wanted = match pinned {
                    _ if model.gone => broken(Rule::Exists),
                    Some(page) => broken(Rule::Unpinned { page: page as u64 }),
                    None => Ok(()),
                };
                assert_eq!(pager.free(mmu, model.id), wanted);
                model.gone |= wanted.is_ok();
            }
            Step::Pin(which, range) => {
                let Some(which) = pick(which) else { return };
                let model = &mut self.objects[which];
                let result = pager.pin(mmu, model.id, range.clone());
                match (result, model.check(&range)) {
                    (Ok(()), Ok(range)) => model.pins[range].iter_mut().for_each(|pins| *pins += 1),
                    (Err(Error::AllPinned | Error::Store(StoreError::Full)), Ok(_)) => {}
                    (result, wanted) => {
                        assert_eq!(result, wanted.map(drop).map_err(Error::Broken));
                    }
                }
            }
            Step::Unpin(which, range) => {
                let Some(which) = pick(which) else { return };
                let model = &mut self.objects[which];
                let wanted = model.pinned(&range).and_then(|range| {
                    let last = |&page: &usize| model.pins[page] == 1 && model.views[page] > 0;
                    match range.clone().find(last) {
                        Some(page) => Err(Rule::Unmapped { page: page as u64 }),
                        None => Ok(range),
                    }
                });
                if let Ok(range) = wanted.clone() {
                    model.pins[range].iter_mut().for_each(|pins| *pins -= 1);
                }
                let result = pager.unpin(model.id, range);
                assert_eq!(result, wanted.map(drop).map_err(Error::Broken));
            }
            Step::Write(which, page) => {
                let Some(which) = pick(which) else { return };
                let model = &mut self.objects[which];
                let wanted = model.pinned(&(page..page + 1)).map(drop).map_err(Error::Broken);
                let found = pager.page(model.id, page);
                assert_eq!(found.map(drop), wanted);
                let Ok(frame) = found else { return };
                assert_eq!(mmu.read(frame, 9), u64::from(model.bytes[page as usize]));
                self.byte = self.byte.wrapping_add(1);
                mmu.write(frame, 9, self.byte.into());
                model.bytes[page as usize] = self.byte;
                pager.mark_dirty(model.id, page..page + 1).unwrap();
            }
            Step::Use(which, page) => {
                self.step(mmu, pager, Step::Pin(which, page..page + 1));
                self.step(mmu, pager, Step::Write(which, page));
                self.step(mmu, pager, Step::Unpin(which, page..page + 1));
            }
            Step::Map(which, range) => {
                let Some(which) = pick(which) else { return };
                let model = &mut self.objects[which];
                match (pager.map(mmu, model.id, range.clone()), model.pinned(&range)) {
                    (Ok(view), Ok(range)) => {
                        model.views[range].iter_mut().for_each(|views| *views += 1);
                        self.views.push((view, which));
                    }
                    (Err(Error::Mmu(mmu::Error::NoRoom)), Ok(_)) => {}
                    (result, wanted) => {
                        assert_eq!(result.map(drop), wanted.map(drop).map_err(Error::Broken));
                    }
                }
            }
            Step::Unmap(which) => {
                let Some(which) = which.checked_rem(self.views.len()) else { return };
                let (view, object) = self.views.swap_remove(which);
                for page in view.range() {
                    self.objects[object].views[page as usize] -= 1;
                }
                pager.unmap(mmu, view).unwrap();
            }
            Step::Through(which) => {
                let Some(which) = which.checked_rem(self.views.len()) else { return };
                let (view, object) = &self.views[which];
                let model = &mut self.objects[*object];
                for (place, page) in (0..).zip(view.range()) {
                    let mut va = view.start().page(place);
                    va.0 += 9 * 8;
                    assert_eq!(mmu.load(va), u64::from(model.bytes[page as usize]), "{va}");
                    self.byte = self.byte.wrapping_add(1);
                    mmu.store(va, self.byte.into());
                    model.bytes[page as usize] = self.byte;
                }
                pager.mark_dirty(model.id, view.range()).unwrap();
            }
            Step::Shrink(count) => match pager.shrink(mmu, count) {
                Ok(gone) => assert!(gone <= count),
                Err(error) => assert_eq!(error, Error::Store(StoreError::Full)),
            },
            Step::Table => {
                let tables = mmu.alloc_tables(1).expect("frames are left");
                let space = mmu.pin(tables).unwrap_or_else(|(_, error)| panic!("refused: {error}"));
                let tables = mmu.unpin(space).unwrap();
                mmu.free_tables(tables);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 192 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pageable_objects_behave_as_the_model(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 160 }),
        policy in 0..POLICIES.len(),
    ) {
        with_pager(POLICIES[policy], |mmu, pager| {
            let free = mmu.free_frames();
            let mut models = Models::default();
            for (number, step) in steps.into_iter().enumerate() {
                models.step(mmu, pager, step);
                if number % 16 == 0 {
                    mmu.platform().audit();
                }
                assert!(pager.resident() <= LIMIT && pager.store().len() <= ROOM);
            }
            assert_eq!(mmu.stats().refused, 0);
            // At the end everything can be freed.
            for (view, _) in models.views.drain(..) {
                pager.unmap(mmu, view).unwrap();
            }
            models.objects.retain(|model| !model.gone);
            for model in &models.objects {
                for (page, pins) in (0..).zip(&model.pins) {
                    for _ in 0..*pins {
                        pager.unpin(model.id, page..page + 1).unwrap();
                    }
                }
            }
            for model in models.objects {
                for (page, byte) in (0..).zip(model.bytes) {
                    match pager.pin(mmu, model.id, page..page + 1) {
                        // Every resident page is dirty, and the store is full.
                        Err(error) => assert_eq!(error, Error::Store(StoreError::Full)),
                        Ok(()) => {
                            let frame = pager.page(model.id, page).unwrap();
                            assert_eq!(mmu.read(frame, 9), u64::from(byte));
                            pager.unpin(model.id, page..page + 1).unwrap();
                        }
                    }
                }
                pager.free(mmu, model.id).unwrap();
            }
            mmu.purge_vmap().unwrap();
            assert!(pager.store().is_empty() && pager.resident() == 0);
            assert_eq!(mmu.free_frames(), free);
        });
    }
}
