//! Frees mappings lazily and reuses their pages as page tables: what a hypervisor for directly
//! paged guests exists to survive.
//!
//! Phases, chosen by `phases=` on the command line (default `abc`):
//!
//! * **a**, stray mappings: a page with a stray mapping is pinned as a page table, as a guest did that knew
//!   no better. Each time the hypervisor must refuse, and say which mapping was in the way.
//! * **b**, the policies: address spaces are built from pages that were mapped a moment ago,
//!   pinned, run on and taken apart. No pin may be refused, no content lost.
//! * **c**, hostile: everything forbidden, each with its exact result.
//! * **m**, memory types: what may be mapped in which way of caching, a change that forgets a lazy
//!   mapping, and the shim's that does not; `cache=report` tells the guest that its domain has that
//!   policy, and `form=fixed` leaves out what causes records. See [`memory_types`].
//! * **1** to **5**, the scenarios: subsystems that historically left mappings behind, on every vCPU
//!   at once, in the form that leaves them and in the form that does not; `form=` picks `broken` or
//!   `fixed` (default `both`). See [`scenarios`].
//! * **u**, the upcall: pins that meet a mapping of which the shim lost track, and heal. See
//!   [`upcall`].
//!
//! `rounds=N` sets the rounds of each policy and scenario (default 400), `seed=S` the random choices,
//! and `pages=N` the memory that is used. The last line is `VERDICT pass ...` or `VERDICT fail ...`.
#![no_std]
#![no_main]

extern crate alloc;

mod hostile;
mod memory_types;
mod policies;
mod scenarios;
mod stray;
mod upcall;
mod violation;
mod words;

use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, event, kernel, smp};
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::mmu::Config;
use pinfold_guest::vmap::Policy;
use pinfold_guest::{guest_main, println};

guest_main!(main);

/// What a phase found wrong; it is printed where it is found.
pub(crate) struct Failed;

fn main(boot: &Boot) -> Exit {
    let seed = boot.number("seed", 1);
    let rounds = boot.number("rounds", 400);
    let phases = boot.option("phases").unwrap_or("abc");
    if let Err(errno) = event::init(boot) {
        return verdict(Err(Failed), format_args!("shared page: {errno}"));
    }
    let config = Config {
        vmap_start: words::VMAP,
        vmap_pages: words::VMAP_PAGES,
        kmap_start: words::KMAP,
        kmap_slots: 64,
        cpus: smp::count().max(1) as usize,
        policy: Policy::Lazy,
        table_pool: 0,
    };
    // SAFETY: once, and nobody else in this guest uses frames.
    let mmu = match unsafe { kernel::start(boot, boot.number("pages", 16384), &config) } {
        Ok(mmu) => Mutex::new(mmu),
        Err(error) => return verdict(Err(Failed), format_args!("start: {error}")),
    };
    println!(
        "stress: phases={phases} rounds={rounds} seed={seed} free={}",
        mmu.lock().free_frames()
    );
    let mut random = Random::new(seed);
    let mut fixture = None;
    for phase in phases.chars() {
        let result = match phase {
            'a' => stray::run(&mut mmu.lock(), &mut random, rounds),
            'b' => policies::run(&mut mmu.lock(), &mut random, rounds),
            'c' => hostile::run(&mut mmu.lock(), boot),
            'm' => memory_types::run(&mut fixture, &mmu, boot, &mut random),
            '1'..='5' => scenarios::run(&mut fixture, &mmu, boot, phase),
            'u' => scenarios::fixture(&mut fixture, &mmu, boot)
                .and_then(|fixture| upcall::run(fixture, rounds)),
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
