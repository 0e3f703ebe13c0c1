//! The broken form. It makes two mistakes in turn:
//!
//! * **batched**, as XFS did in 2007: dead areas are cleared 64 at a time, and the pin of a page
//!   table doesn't check whether its frame is mapped by one of them.
//! * **block**: the pin does check, but a block of addresses that was used up and then freed is on
//!   no list any more.

use super::super::fixture::Fixture;
use super::super::tables::pin_and_free;
use super::super::{SeededAliases, Tally};
use super::{pages_of, region};
use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use crate::words;
use alloc::vec::Vec;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::buffer_cache::{BufferCache, Error, MemoryDisk};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::vmap::{Area, BLOCK_PAGES, Policy, Region, SMALL_PAGES};

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let seeded = SeededAliases::default();
    fixture.set_policy(Policy::Batch(64))?;
    let region = region(fixture)?;
    fixture.all(fixture.rounds(), |cpu, round, random| {
        let here = Round { fixture, region, cpu, round, seeded: &seeded };
        if random.below(2) == 0 { here.batched(random) } else { here.block(random) }
    })?;
    Ok(seeded.tally())
}

/// One round on one vCPU.
struct Round<'a> {
    fixture: &'a Fixture<'a>,
    region: Region,
    cpu: usize,
    round: u64,
    seeded: &'a SeededAliases,
}

impl Round<'_> {
    /// Frees a buffer, and makes a page table of its last page.
    fn batched(&self, random: &mut Random) -> Result<(), Failure> {
        let &Round { fixture, cpu, round, seeded, .. } = self;
        let mut cache = BufferCache::new(MemoryDisk::default(), self.region, 32);
        let block = random.below(64);
        let handle =
            cache.get(&mut fixture.mmu(), cpu, block, pages_of(block)).map_err(to_failure)?;
        let last = handle.start().page(handle.pages() - 1);
        words::store(last, round);
        let mut mmu = fixture.mmu();
        fixture.mark(round, "batched");
        cache.put(&mmu, handle, true);
        // Nothing else is dead, so the batch isn't full.
        mmu.purge_vmap()?;
        cache.clear(&mut mmu).map_err(to_failure)?;
        let tree = seeded.table(mmu.alloc_tables(1)?, None)?;
        let frame = tree.frames()[0];
        let tree = expect_refusal(&mut mmu, tree, Mmu::pin_without_before_pin)?;
        seeded.refused(check_named(&mut mmu, frame, &[last])?);
        pin_and_free(&mut mmu, tree)
    }

    /// Uses up a block of addresses and frees it, and makes a page table of one of its pages.
    fn block(&self, random: &mut Random) -> Result<(), Failure> {
        let &Round { fixture, region, cpu, round, seeded } = self;
        let mut areas: Vec<(Area, Vec<Pfn>)> = Vec::new();
        let mut pages = 0;
        // The rest of the last block, and all of the next.
        while pages < 2 * BLOCK_PAGES {
            let mut mmu = fixture.mmu();
            let frames: Result<Vec<Pfn>, _> =
                (0..1 + random.below(SMALL_PAGES)).map(|_| mmu.alloc_frame()).collect();
            let frames = frames?;
            areas.push((mmu.vmap_small(region, cpu, &frames)?, frames));
            pages += areas.last().map_or(0, |(area, _)| area.pages());
        }
        for (area, _) in &areas {
            words::store(area.start(), round);
        }
        let mut mmu = fixture.mmu();
        fixture.mark(round, "block");
        mmu.leak_blocks(cpu, true);
        // The batch must not become full before the block is lost.
        mmu.purge_vmap()?;
        mmu.set_policy(Policy::Lazy)?;
        let mut lost: Vec<(Vaddr, Pfn)> = Vec::new();
        for (area, frames) in areas {
            lost.extend((0..).zip(&frames).map(|(page, &frame)| (area.start().page(page), frame)));
            mmu.vunmap(area)?;
        }
        mmu.leak_blocks(cpu, false);
        mmu.set_policy(Policy::Batch(64))?;
        let (kept, lost): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|&(va, _)| !mmu.is_leaked(va));
        let Some(&(va, frame)) = lost.get(random.below(lost.len().max(1) as u64) as usize) else {
            return Err(Failure::Other("no block was lost"));
        };
        for (_, other) in kept.into_iter().chain(lost) {
            if other != frame {
                mmu.free_frame(other);
            }
        }
        mmu.free_frame(frame);
        let tree = seeded.table(mmu.alloc_tables(1)?, Some(frame))?;
        let tree = expect_refusal(&mut mmu, tree, Mmu::pin)?;
        seeded.refused(check_named(&mut mmu, frame, &[va])?);
        mmu.reclaim_leaked_blocks()?;
        pin_and_free(&mut mmu, tree)
    }
}

pub(super) fn to_failure(error: Error) -> Failure {
    match error {
        Error::Busy => Failure::Other("the buffer is in use"),
        Error::Mmu(error) => error.into(),
        Error::Corrupt { frame, .. } => Failure::Corrupt(frame),
    }
}
