//! Attacks by stale translations: those that a CPU's TLB keeps after the page-table entry is gone.
//!
//! The guest never flushes. It maps every frame that it gets in a window, uses the window, clears
//! its entry and gives the frame back, in the hope that the hypervisor or another domain takes it.
//! Then it stores through the windows. No such store may reach a frame that somebody else owns.
//! It fails if one does, if a frame comes with contents, or if too few translations were stale, for
//! then nothing was tested.
//!
//! Alone (no `role`) it attacks what the hypervisor keeps for it, and frames that it gets again.
//! `phases=` chooses:
//!
//! | phase | where the frames go that were given back                                           |
//! |-------|------------------------------------------------------------------------------------|
//! | `g`   | into its grant table, which grows: shared frames and status of entries             |
//! | `h`   | into its table of grant handles, which grows as it maps grants                     |
//! | `r`   | back to the guest, which takes frames again                                        |
//! | `x`   | back to the guest, which exchanges frames                                          |
//! | `m`   | all of these, pins, audits and dumps, in random order                              |
//!
//! With a second vCPU, that one stores through all windows all the time. In the container it is needed:
//! without it only what the guest finds is checked, not whether translations were stale. `rounds=N` is the number of
//! rounds, `seed=S` repeats the random choices.
//!
//! With other domains (see [`pair`]): `role=victim peers=A,B` checks its memory until the peers have
//! ended, and takes their frames then; `role=attacker peers=V` attacks it; `role=granter peers=B`
//! and `role=borrower peers=G,V` attack it with frames that one grants to the other.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod attack;
mod forgery;
mod pair;
mod self_grant;
mod single;
mod table;
mod windows;
mod writer;

use alloc::vec::Vec;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::Check;
use pinfold_guest::guest_main;
use pinfold_guest::hypercall::sched::Exit;

guest_main!(main);

/// The options on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) phases: &'static str,
    /// Numbers of the other domains, in the order that the role defines.
    pub(crate) peers: Vec<u16>,
    /// The index of this domain among the victim's peers.
    pub(crate) place: u32,
    /// How many frames must reach the victim while there is a stale translation of them.
    pub(crate) crossed: u64,
}

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("stale", boot);
    if check.ok("the shared page", event::init(boot)).is_none() {
        return check.verdict();
    }
    let peers = boot.option("peers").unwrap_or_default();
    let plan = Plan {
        rounds: boot.number("rounds", 200),
        seed: boot.number("seed", 1),
        phases: boot.option("phases").unwrap_or("ghrxm"),
        place: boot.number("place", 0) as u32,
        crossed: boot.number("crossed", 0),
        peers: peers.split(',').filter_map(|number| number.parse().ok()).collect(),
    };
    match boot.option("role") {
        None => single::run(boot, &plan, &mut check),
        Some(role) => pair::run(boot, role, &plan, &mut check),
    }
    check.verdict()
}
