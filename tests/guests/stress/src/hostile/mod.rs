//! Phase c: everything that is forbidden, each with its exact result.

pub(crate) mod check;
mod counts;
mod extra;
mod frames;
mod freeing;
mod routes;
mod types;

pub(crate) use extra::audit;

use crate::failure::Failed;
use alloc::vec::Vec;
use check::Check;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, Native};
use pinfold_guest::fixtures::TableFixture;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;

/// Frames of the fixture.
const FRAMES: usize = 96;

/// All of it.
pub(crate) fn run(mmu: &mut Mmu<Native>, boot: &Boot) -> Result<(), Failed> {
    with_table_fixture(mmu, boot, "HOSTILE", |_, fixture, check| {
        routes::run(fixture, check);
        types::run(fixture, check);
        frames::run(fixture, check);
        counts::run(fixture, check);
        extra::run(fixture, check);
        freeing::run(fixture, check);
    })
}

/// Runs checks on free frames, and prints how many there were and how many failed.
pub(crate) fn with_table_fixture(
    mmu: &mut Mmu<Native>,
    boot: &Boot,
    what: &str,
    trials: impl FnOnce(&mut Mmu<Native>, &mut TableFixture, &mut Check),
) -> Result<(), Failed> {
    let pool: Result<Vec<Pfn>, _> = (0..FRAMES).map(|_| mmu.alloc_frame()).collect();
    let Ok(mut pool) = pool else {
        println!("hostile: no frames for the fixture");
        return Err(Failed);
    };
    pool.sort_unstable();
    if mmu.purge_vmap().and_then(|_| mmu.purge_kmap()).is_err() {
        println!("hostile: dead mappings could not be cleared");
        return Err(Failed);
    }
    let mut fixture = TableFixture::with(Frames::new(boot), pool);
    let mut check = Check::new(boot);
    trials(mmu, &mut fixture, &mut check);
    for pfn in fixture.into_frames() {
        mmu.free_frame(pfn);
    }
    println!("{what} tried={} wrong={}", check.tried, check.wrong);
    if check.wrong == 0 { Ok(()) } else { Err(Failed) }
}
