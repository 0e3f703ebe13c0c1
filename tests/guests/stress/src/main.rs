//! Frees mappings lazily and reuses their pages as page tables: what a hypervisor for directly
//! paged guests exists to survive.
//!
//! Phases, chosen by `phases=` on the command line (default `abc`):
//!
//! * **a**, naive: a page with a stray mapping is pinned as a page table, as a guest did that knew
//!   no better. Each time the hypervisor must refuse, and say which mapping was in the way.
//! * **b**, the policies: address spaces are built from pages that were mapped a moment ago,
//!   pinned, run on and taken apart. No pin may be refused, no content lost.
//! * **c**, hostile: everything forbidden, each with its exact result.
//!
//! `rounds=N` sets the rounds of each policy (default 400), `seed=S` the random choices, and
//! `pages=N` the memory that is used. The last line is `VERDICT pass ...` or `VERDICT fail ...`.
#![no_std]
#![no_main]

extern crate alloc;

mod hostile;
mod naive;
mod policies;
mod random;

use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::{Boot, kernel};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::mmu::Config;
use pinfold_guest::vmap::Policy;
use pinfold_guest::{guest_main, println};
use random::Random;

guest_main!(main);

/// What a phase found wrong; it is printed where it is found.
pub(crate) struct Failed;

fn main(boot: &Boot) -> Exit {
    let seed = boot.number("seed", 1);
    let rounds = boot.number("rounds", 400);
    let phases = boot.option("phases").unwrap_or("abc");
    let config = Config {
        vmap_start: Vaddr(0xffff_9000_0000_0000),
        vmap_pages: 16 * 512,
        kmap_start: Vaddr(0xffff_9800_0000_0000),
        kmap_slots: 64,
        cpus: 1,
        policy: Policy::Lazy,
        table_pool: 0,
    };
    // SAFETY: once, and nobody else in this guest uses frames.
    let mut mmu = match unsafe { kernel::start(boot, boot.number("pages", 16384), &config) } {
        Ok(mmu) => mmu,
        Err(error) => return verdict(Err(Failed), format_args!("start: {error}")),
    };
    println!("stress: phases={phases} rounds={rounds} seed={seed} free={}", mmu.free_frames());
    let mut random = Random::new(seed);
    for phase in phases.chars() {
        let result = match phase {
            'a' => naive::run(&mut mmu, &mut random, rounds),
            'b' => policies::run(&mut mmu, &mut random, rounds),
            'c' => hostile::run(&mut mmu, boot),
            _ => {
                println!("stress: there is no phase {phase}");
                Err(Failed)
            }
        };
        if result.is_err() {
            return verdict(Err(Failed), format_args!("phase={phase}"));
        }
    }
    finish(phases, seed)
}

/// The last checks: nothing leaked, and where the hypervisor can recount, it agrees.
fn finish(phases: &str, seed: u64) -> Exit {
    match hostile::audit() {
        Ok(text) => verdict(Ok(()), format_args!("phases={phases} seed={seed} audit={text}")),
        Err(Failed) => verdict(Err(Failed), format_args!("audit")),
    }
}

fn verdict(result: Result<(), Failed>, text: core::fmt::Arguments<'_>) -> Exit {
    match result {
        Ok(()) => {
            println!("VERDICT pass guest=stress {text}");
            Exit::PowerOff
        }
        Err(Failed) => {
            println!("VERDICT fail guest=stress {text}");
            Exit::Crash
        }
    }
}
