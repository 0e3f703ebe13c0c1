//! The broken form: an object is written through a mapping, unmapped, unpinned and paged out. Its
//! last page becomes a page table, and the pin doesn't look for the mapping.

use super::super::fixture::Fixture;
use super::super::tables::pin_and_free;
use super::super::{SeededAliases, Tally};
use super::region;
use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use crate::words;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::pageable::{Error, InMemory, Pager, Rule};
use pinfold_guest::vmap::{Policy, Region};

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let seeded = SeededAliases::default();
    fixture.set_policy(Policy::Lazy)?;
    let region = region(fixture)?;
    fixture.all(fixture.rounds(), |_, round, random| {
        run_round(fixture, region, round, random, &seeded)
    })?;
    Ok(seeded.tally())
}

fn run_round(
    fixture: &Fixture<'_>,
    region: Region,
    round: u64,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Failure> {
    let pages = 1 + random.below(6);
    let stamp = random.next_u64();
    let mut pager = Pager::new(InMemory::new(8), 8, region);
    let mut owner = fixture.mmu();
    let mmu = &mut *owner;
    mmu.purge_vmap()?;
    fixture.mark(round, "view");
    let id = pager.create(pages)?;
    pager.pin(mmu, id, 0..pages)?;
    let frame = pager.page(id, pages - 1)?;
    let view = pager.map(mmu, id, 0..pages)?;
    let last = view.start().page(pages - 1);
    for page in 0..pages {
        words::store(view.start().page(page), stamp ^ page);
    }
    pager.mark_dirty(id, 0..pages)?;
    // The rules keep pages while they are mapped, but know nothing of lazy mappings.
    let early = pager.unpin(id, 0..pages);
    if early != Err(Error::Broken(Rule::Unmapped { page: 0 })) {
        return Err(Failure::Other("a mapped page lost its last pin"));
    }
    pager.unmap(mmu, view)?;
    pager.unpin(id, 0..pages)?;
    if pager.shrink(mmu, pages as usize)? as u64 != pages {
        return Err(Failure::Other("not all pages were paged out"));
    }
    let tree = seeded.table(mmu.alloc_tables(1)?, Some(frame))?;
    let tree = expect_refusal(mmu, tree, Mmu::pin_without_before_pin)?;
    seeded.refused(check_named(mmu, frame, &[last])?);
    pin_and_free(&mut owner, tree)?;
    // What was written still exists, in other frames.
    let mmu = &mut *owner;
    pager.pin(mmu, id, 0..pages)?;
    for page in 0..pages {
        if mmu.read(pager.page(id, page)?, 0) != stamp ^ page {
            return Err(Failure::Corrupt(pager.page(id, page)?));
        }
    }
    pager.unpin(id, 0..pages)?;
    Ok(pager.free(mmu, id)?)
}
