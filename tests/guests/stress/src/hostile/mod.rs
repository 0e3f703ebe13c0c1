//! Phase c: everything forbidden, each with its exact result.

pub(crate) mod check;
mod counts;
mod extra;
mod frames;
mod freeing;
mod routes;
mod types;

pub(crate) use extra::audit;

use crate::Failed;
use alloc::vec::Vec;
use check::Check;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, Native};
use pinfold_guest::fixtures::TableFixture;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;

/// Frames to do harm to.
const BENCH: usize = 96;

/// All of it.
pub(crate) fn run(mmu: &mut Mmu<Native>, boot: &Boot) -> Result<(), Failed> {
    on_bench(mmu, boot, "HOSTILE", |_, lab, check| {
        routes::run(lab, check);
        types::run(lab, check);
        frames::run(lab, check);
        counts::run(lab, check);
        extra::run(lab, check);
        freeing::run(lab, check);
    })
}

/// Tries things on a bench of free frames, and says how many were tried and how many went wrong.
pub(crate) fn on_bench(
    mmu: &mut Mmu<Native>,
    boot: &Boot,
    what: &str,
    trials: impl FnOnce(&mut Mmu<Native>, &mut TableFixture, &mut Check),
) -> Result<(), Failed> {
    let pool: Result<Vec<Pfn>, _> = (0..BENCH).map(|_| mmu.alloc_frame()).collect();
    let Ok(mut pool) = pool else {
        println!("hostile: no frames for the bench");
        return Err(Failed);
    };
    pool.sort_unstable();
    if mmu.purge_vmap().and_then(|_| mmu.purge_kmap()).is_err() {
        println!("hostile: dead mappings could not be cleared");
        return Err(Failed);
    }
    let mut lab = TableFixture::with(Frames::new(boot), pool);
    let mut check = Check::new(boot);
    trials(mmu, &mut lab, &mut check);
    for pfn in lab.into_frames() {
        mmu.free_frame(pfn);
    }
    println!("{what} tried={} wrong={}", check.tried, check.wrong);
    if check.wrong == 0 { Ok(()) } else { Err(Failed) }
}
