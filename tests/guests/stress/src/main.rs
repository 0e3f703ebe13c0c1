//! Tests pins of page tables whose frames have, or had a moment ago, lazily freed mappings.
//!
//! Phases, chosen by `phases=` on the command line (default `abc`):
//!
//! * **a**, stray mappings: frames with a stray mapping are pinned as page tables without looking
//!   for it. Each pin must be refused, and the hypervisor must name the mapping. See [`stray`].
//! * **b**, policies of the shim: address spaces are built from frames that were mapped a moment
//!   ago, pinned, run on and freed. No pin may be refused, and no content lost. See [`policies`].
//! * **c**, hostile: everything that is forbidden, each with its exact result. See [`hostile`].
//! * **m**, memory types: which types may be mixed, a change of type that forgets a lazy mapping,
//!   and the shim's change that does not. `cache=report` says that the domain's policy is to report
//!   mixing only; with `form=fixed` nothing is done that causes records. See [`memory_types`].
//! * **1** to **5**, scenarios: subsystems that have left mappings behind in real kernels, on all
//!   vCPUs at once, in a form that leaves them and a form that does not. `form=` is `broken`,
//!   `fixed` or `both` (the default). See [`scenarios`].
//! * **u**, the alias upcall: pins that meet a mapping of which the shim has lost track. See
//!   [`upcall`].
//!
//! `rounds=N` sets the rounds of each policy and scenario (default 400), `seed=S` the random choices,
//! and `pages=N` the frames that are used.
//!
//! It fails when a pin is accepted or refused against expectation, a mapping isn't named, a content
//! is lost, a frame leaks, or the hypervisor's audit finds something. The last line is
//! `VERDICT pass ...` or `VERDICT fail ...`.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod failure;
mod hostile;
mod memory_types;
mod policies;
mod scenarios;
mod stray;
mod upcall;
mod words;

use failure::Failed;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, event, kernel, smp};
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::mmu::Config;
use pinfold_guest::vmap::Policy;
use pinfold_guest::{guest_main, println};

guest_main!(main);

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

/// Checks at the end that the hypervisor's audit finds nothing wrong.
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
