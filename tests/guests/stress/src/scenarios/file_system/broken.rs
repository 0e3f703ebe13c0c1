//! The broken form. Two mistakes, by turns:
//!
//! * **batched**, XFS's of 2007: 64 dead areas are cleared together, and who makes a page table
//!   doesn't ask whether its page is among them.
//! * **block**: who makes a page table does ask, but a block of addresses that was used up and then
//!   freed is on no list any more.

use super::super::fixture::Fixture;
use super::super::tables::healed;
use super::super::{SeededAliases, Tally};
use super::{pages_of, region};
use crate::violation::{Wrong, named, refuse};
use crate::{Failed, words};
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
        let here = Here { fixture, region, cpu, round, seeded: &seeded };
        if random.below(2) == 0 { here.batched(random) } else { here.block(random) }
    })?;
    Ok(seeded.tally())
}

/// A round on a vCPU.
struct Here<'a> {
    fixture: &'a Fixture<'a>,
    region: Region,
    cpu: usize,
    round: u64,
    seeded: &'a SeededAliases,
}

impl Here<'_> {
    /// A buffer is given up, and its last page becomes a page table.
    fn batched(&self, random: &mut Random) -> Result<(), Wrong> {
        let &Here { fixture, cpu, round, seeded, .. } = self;
        let mut cache = BufferCache::new(MemoryDisk::default(), self.region, 32);
        let block = random.below(64);
        let handle = cache.get(&mut fixture.mmu(), cpu, block, pages_of(block)).map_err(wrong)?;
        let last = handle.start().page(handle.pages() - 1);
        words::store(last, round);
        let mut mmu = fixture.mmu();
        fixture.mark(round, "batched");
        cache.put(&mmu, handle, true);
        // Nothing else is dead, so that the batch is not full with this one.
        mmu.purge_vmap()?;
        cache.clear(&mut mmu).map_err(wrong)?;
        let tree = seeded.table(mmu.alloc_tables(1)?, None)?;
        let frame = tree.frames()[0];
        let tree = refuse(&mut mmu, tree, Mmu::pin_without_before_pin)?;
        seeded.refused(named(&mut mmu, frame, &[last])?);
        healed(&mut mmu, tree)
    }

    /// A block is used up and freed, and one of its pages becomes a page table.
    fn block(&self, random: &mut Random) -> Result<(), Wrong> {
        let &Here { fixture, region, cpu, round, seeded } = self;
        let mut areas: Vec<(Area, Vec<Pfn>)> = Vec::new();
        let mut pages = 0;
        // Whatever is left of the last block, and all of the next.
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
        // The batch is not full before the block is lost.
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
            return Err(Wrong::Told("no block was lost"));
        };
        for (_, other) in kept.into_iter().chain(lost) {
            if other != frame {
                mmu.free_frame(other);
            }
        }
        mmu.free_frame(frame);
        let tree = seeded.table(mmu.alloc_tables(1)?, Some(frame))?;
        let tree = refuse(&mut mmu, tree, Mmu::pin)?;
        seeded.refused(named(&mut mmu, frame, &[va])?);
        mmu.reclaim_leaked_blocks()?;
        healed(&mut mmu, tree)
    }
}

pub(super) fn wrong(error: Error) -> Wrong {
    match error {
        Error::Busy => Wrong::Told("somebody has the buffer"),
        Error::Mmu(error) => error.into(),
        Error::Corrupt { frame, .. } => Wrong::Corrupt(frame),
    }
}
