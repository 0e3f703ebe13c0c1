//! Phase c: everything forbidden, each with its exact result.

mod check;
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
use pinfold_guest::hostile::Lab;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;

/// Frames to do harm to.
const BENCH: usize = 96;

/// All of it.
pub(crate) fn run(mmu: &mut Mmu<Native>, boot: &Boot) -> Result<(), Failed> {
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
    let mut lab = Lab::with(Frames::new(boot), pool);
    let mut check = Check::new(boot);
    routes::run(&mut lab, &mut check);
    types::run(&mut lab, &mut check);
    frames::run(&mut lab, &mut check);
    counts::run(&mut lab, &mut check);
    extra::run(&mut lab, &mut check);
    freeing::run(&mut lab, &mut check);
    for pfn in lab.into_frames() {
        mmu.free_frame(pfn);
    }
    println!("HOSTILE tried={} wrong={}", check.tried, check.wrong);
    if check.wrong == 0 { Ok(()) } else { Err(Failed) }
}
