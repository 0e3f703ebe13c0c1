//! A buffer cache: contents are never lost, whatever the pages of evicted buffers become.

use crate::guest::{POLICIES, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer_cache::{BufferCache, Error, Handle, MemoryDisk};
use pinfold_guest::mmu::{self, Mmu};
use pinfold_guest::vmap::{Policy, Region};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Cache = BufferCache<MemoryDisk>;

/// Pages of a block; the largest are not carved from a vmap block.
fn pages_of(block: u64) -> u64 {
    [1, 2, 3, 8, 20][block as usize % 5]
}

fn word(handle: &Handle, page: u64) -> Vaddr {
    Vaddr(handle.start().page(page).0 + 8 * (page % 512))
}

/// Writes a block and gives its buffer back.
fn write(cache: &mut Cache, mmu: &mut Mmu<Machine<'_>>, block: u64, stamp: u64) {
    let handle = cache.get(mmu, 0, block, pages_of(block)).expect("the buffer is not taken");
    for page in 0..handle.pages() {
        mmu.store(word(&handle, page), stamp ^ page);
    }
    cache.put(mmu, handle, true);
}

/// Makes a page table of the frame that was freed last.
fn table(mmu: &mut Mmu<Machine<'_>>) {
    let Ok(tables) = mmu.alloc_tables(1) else { return };
    let space = mmu.pin(tables).expect("the shim clears lazy mappings first");
    let tables = mmu.unpin(space).expect("it is not loaded");
    mmu.free_tables(tables);
}

#[test]
fn the_least_recently_used_buffer_is_evicted() {
    with_guest(Policy::Lazy, true, |mmu| {
        let mut cache = Cache::new(MemoryDisk::default(), Region::default(), 3);
        // Blocks of one page.
        for block in [0, 5, 10] {
            write(&mut cache, mmu, block, 1);
        }
        write(&mut cache, mmu, 0, 2);
        write(&mut cache, mmu, 15, 1);
        assert_eq!(cache.counts().evictions, 1);
        for block in [0, 10, 15] {
            let handle = cache.get(mmu, 0, block, 1).unwrap();
            cache.put(mmu, handle, false);
        }
        assert_eq!((cache.counts().hits, cache.counts().reads), (4, 4));
        cache.clear(mmu).unwrap();
        assert_eq!(cache.pages(), 0);
    });
}

#[test]
fn a_taken_buffer_is_busy() {
    with_guest(Policy::Lazy, true, |mmu| {
        let mut cache = Cache::new(MemoryDisk::default(), Region::default(), 3);
        let handle = cache.get(mmu, 0, 1, 2).unwrap();
        assert_eq!(cache.get(mmu, 1, 1, 2).unwrap_err(), Error::Busy);
        // A taken buffer stays even when memory is short.
        assert_eq!(cache.shrink(mmu, 10), Ok(0));
        cache.put(mmu, handle, false);
        assert_eq!(cache.shrink(mmu, 10), Ok(2));
    });
}

#[test]
fn a_write_through_a_stray_mapping_is_reported_as_corruption() {
    with_guest(Policy::Batch(64), true, |mmu| {
        for dirty in [false, true] {
            let mut cache = Cache::new(MemoryDisk::default(), Region::default(), 100);
            // A frame with a dead mapping.
            let frame = mmu.alloc_frame().unwrap();
            let area = mmu.vmap(&[frame]).unwrap();
            let stray = area.start();
            mmu.vunmap(area).unwrap();
            mmu.free_frame(frame);
            let handle = cache.get(mmu, 0, 0, 1).unwrap();
            mmu.store(handle.start(), 1);
            cache.put(mmu, handle, true);
            if !dirty {
                // It is read from the disk then.
                let frame_again = cache.shrink(mmu, 1).map(|_| mmu.alloc_frame().unwrap());
                assert_eq!(frame_again, Ok(frame));
                mmu.free_frame(frame);
                let handle = cache.get(mmu, 0, 0, 1).unwrap();
                cache.put(mmu, handle, false);
                let area = mmu.vmap(&[frame]).unwrap();
                mmu.store(area.start(), 99);
                mmu.vunmap(area).unwrap();
            } else {
                mmu.store(stray, 99);
            }
            let corrupt = Error::Corrupt { block: 0, page: 0, frame };
            assert_eq!(cache.get(mmu, 0, 0, 1).unwrap_err(), corrupt);
            assert_eq!(cache.clear(mmu).unwrap_err(), corrupt);
            mmu.purge_vmap().unwrap();
        }
    });
}

#[test]
fn buffers_are_evicted_when_memory_is_short() {
    with_guest(Policy::HoldRefs, true, |mmu| {
        let mut cache = Cache::new(MemoryDisk::default(), Region::default(), u64::MAX);
        let all = mmu.free_frames() as u64;
        for block in 0..all / 4 {
            write(&mut cache, mmu, block, block);
        }
        assert!(cache.pages() <= all && cache.counts().evictions > 0);
        let mut held = Vec::new();
        let error = loop {
            match cache.get(mmu, 0, 1000 + held.len() as u64 * 5, 1) {
                Ok(handle) => held.push(handle),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::Mmu(mmu::Error::NoFrame), "all buffers are taken");
        for handle in held {
            cache.put(mmu, handle, false);
        }
        cache.clear(mmu).unwrap();
    });
}

#[derive(Clone, Debug)]
enum Step {
    Get(usize, u64),
    Put(usize, bool),
    Table,
    Tick(u64),
    Shrink(u64),
    Policy(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize, 0..25u64).prop_map(|(cpu, block)| Step::Get(cpu, block)),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(which, dirty)| Step::Put(which, dirty)),
        4 => Just(Step::Table),
        2 => (0..8u64).prop_map(Step::Tick),
        1 => (0..40u64).prop_map(Step::Shrink),
        1 => (0..POLICIES.len()).prop_map(Step::Policy),
    ]
}

fn play(steps: &[Step], policy: Policy, extra: bool) {
    with_guest(policy, extra, |mmu| {
        let mut cache = Cache::new(MemoryDisk::default(), Region::default(), 60);
        let mut stamps = BTreeMap::<u64, u64>::new();
        let (mut taken, mut now) = (Vec::<Handle>::new(), 0);
        let check = |mmu: &Mmu<Machine<'_>>, handle: &Handle, stamps: &BTreeMap<u64, u64>| {
            let stamp = stamps.get(&handle.block()).copied();
            for page in 0..handle.pages() {
                let wanted = stamp.map_or(0, |stamp| stamp ^ page);
                assert_eq!(mmu.load(word(handle, page)), wanted, "block {}", handle.block());
            }
        };
        for (number, step) in (1..).zip(steps) {
            match *step {
                Step::Get(cpu, block) => match cache.get(mmu, cpu, block, pages_of(block)) {
                    Ok(handle) => {
                        check(mmu, &handle, &stamps);
                        taken.push(handle);
                    }
                    Err(Error::Busy) => assert!(taken.iter().any(|h| h.block() == block)),
                    Err(error) => panic!("{error}"),
                },
                Step::Put(which, dirty) if !taken.is_empty() => {
                    let handle = taken.swap_remove(which % taken.len());
                    check(mmu, &handle, &stamps);
                    if dirty {
                        for page in 0..handle.pages() {
                            mmu.store(word(&handle, page), number ^ page);
                        }
                        stamps.insert(handle.block(), number);
                    }
                    cache.put(mmu, handle, dirty);
                }
                Step::Put(..) => {}
                Step::Table => table(mmu),
                Step::Tick(more) => {
                    now += more;
                    cache.tick(mmu, now, 10).expect("nothing is corrupt");
                }
                Step::Shrink(pages) => drop(cache.shrink(mmu, pages).expect("nothing is corrupt")),
                Step::Policy(which) => mmu.set_policy(POLICIES[which]).expect("any time"),
            }
        }
        for handle in taken {
            check(mmu, &handle, &stamps);
            cache.put(mmu, handle, false);
        }
        cache.clear(mmu).expect("nothing is corrupt");
        assert_eq!(mmu.stats().refused, 0);
        table(mmu);
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 48 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_buffer_cache_returns_what_was_written(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 10 } else { 80 }),
        policy in 0..POLICIES.len(),
        extra in any::<bool>(),
    ) {
        play(&steps, POLICIES[policy], extra);
    }
}
