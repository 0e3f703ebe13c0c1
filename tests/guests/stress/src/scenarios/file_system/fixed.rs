//! The fixed form: the same work through the shim, under every policy. All vCPUs share one cache. A
//! vCPU uses its buffer while others map, unmap and pin.

use super::super::fixture::Fixture;
use super::super::tables;
use super::broken::to_failure;
use super::{pages_of, region, words_of};
use crate::failure::Failed;
use crate::failure::Failure;
use crate::policies::KINDS;
use crate::words;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::buffer_cache::{BufferCache, Error, Handle, MemoryDisk};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Random;
use pinfold_guest::println;

/// Blocks of the disk.
const BLOCKS: u64 = 60;
/// Pages that the cache keeps: about half of the disk's.
const PAGES: u64 = 100;
/// Rounds after which buffers that nobody used are unmapped and cleared.
const AGE: u64 = 20;

/// The cache, and what was written last into each block.
struct FileSystem {
    cache: Mutex<BufferCache<MemoryDisk>>,
    stamps: [AtomicU64; BLOCKS as usize],
    /// Rounds so far, of all vCPUs: the cache's clock.
    now: AtomicU64,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<(), Failed> {
    let files = FileSystem {
        cache: Mutex::new(BufferCache::new(MemoryDisk::default(), region(fixture)?, PAGES)),
        stamps: [const { AtomicU64::new(0) }; BLOCKS as usize],
        now: AtomicU64::new(0),
    };
    let share = fixture.rounds().div_ceil(KINDS.len() as u64);
    for (policy, pool) in KINDS {
        fixture.set_policy(policy)?;
        fixture.mmu().set_table_pool(pool);
        let (before, began) = (fixture.mmu().stats(), time::tsc());
        fixture.all(share, |cpu, _, random| files.round(fixture, cpu, random))?;
        let (done, ticks) = (fixture.mmu().stats() - before, time::tsc() - began);
        println!(
            "COST scenario=1 policy={policy} pool={pool} rounds={share} pins={} pins_after_clear={} areas={} cleared={} flushes={} ticks={ticks}",
            done.pins, done.pins_after_clear, done.areas, done.cleared, done.flushes,
        );
    }
    let mut cache = files.cache.lock();
    println!("FILES {:?}", cache.counts());
    fixture.once(|| cache.clear(&mut fixture.mmu()).map_err(to_failure))
}

impl FileSystem {
    fn round(&self, fixture: &Fixture<'_>, cpu: usize, random: &mut Random) -> Result<(), Failure> {
        let now = self.now.fetch_add(1, SeqCst);
        for _ in 0..1 + random.below(3) {
            let block = random.below(BLOCKS);
            let got = {
                let mut cache = self.cache.lock();
                cache.get(&mut fixture.mmu(), cpu, block, pages_of(block))
            };
            match got {
                Ok(handle) => self.use_buffer(fixture, handle, random)?,
                // Another vCPU uses it.
                Err(Error::Busy) => {}
                Err(error) => return Err(to_failure(error)),
            }
        }
        match random.below(40) {
            0 => drop(self.cache.lock().shrink(&mut fixture.mmu(), PAGES / 2).map_err(to_failure)?),
            1..=9 => self.cache.lock().tick(&mut fixture.mmu(), now, AGE).map_err(to_failure)?,
            _ => {}
        }
        tables::build_and_free(&mut fixture.mmu(), random)
    }

    /// Reads and writes a buffer, without the lock, and puts it back.
    fn use_buffer(
        &self,
        fixture: &Fixture<'_>,
        handle: Handle,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let stamp = &self.stamps[handle.block() as usize];
        let old = stamp.load(SeqCst);
        let dirty = random.below(3) > 0;
        let new = if dirty { random.next_u64() | 1 } else { old };
        for page in 0..handle.pages() {
            for (word, va) in (0..).zip(words_of(handle.start().page(page), page)) {
                // A block that was never written is all zeros.
                let content = |stamp: u64| if stamp == 0 { 0 } else { stamp ^ (page * 8 + word) };
                words::check(va, content(old))?;
                if dirty {
                    words::store(va, content(new));
                }
            }
        }
        stamp.store(new, SeqCst);
        self.cache.lock().put(&fixture.mmu(), handle, dirty);
        Ok(())
    }
}
