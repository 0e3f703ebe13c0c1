//! Attacks with stale translations: what a CPU's TLB still remembers of a mapping that is in no table
//! any more. The guest never flushes; it keeps a window on every frame that it ever had, gives the
//! frames back in the hope that the hypervisor or another domain takes them, and stores through the
//! windows. No such store may land in a frame that somebody else has.
//!
//! Alone (no `role`), it looks at what the hypervisor keeps for it: grant table, handles, frames
//! that come again. `phases=` says which parts run:
//!
//! | phase | where the frames that were given back go                                  |
//! |-------|---------------------------------------------------------------------------|
//! | `g`   | its grant table grows: shared frames, and the books about their use       |
//! | `h`   | it maps grants: the books of handles grow                                 |
//! | `r`   | it takes frames again                                                     |
//! | `x`   | it exchanges them                                                         |
//! | `m`   | all of these, pins, audits and dumps, at random                           |
//!
//! With a second vCPU, that one stores through all windows all the time. `rounds=N` and `seed=S` say
//! how often and in which order.
//!
//! Beside others (`pair`): `role=victim peers=A,B` checks its memory until the peers have ended, and
//! takes their frames then; `role=attacker peers=V` attacks it; `role=granter peers=B` and
//! `role=borrower peers=G,V` do so with frames that the one lends to the other.
#![no_std]
#![no_main]

extern crate alloc;

mod alone;
mod field;
mod forgery;
mod lender;
mod pair;
mod table;
mod windows;
mod writer;

use alloc::vec::Vec;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::Check;
use pinfold_guest::guest_main;
use pinfold_guest::hypercall::sched::Exit;

guest_main!(main);

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) phases: &'static str,
    /// Numbers of the other domains, in the order that the role wants.
    pub(crate) peers: Vec<u16>,
    /// Which of the victim's peers this one is.
    pub(crate) place: u32,
    /// Frames that must go to the victim while there is a stale translation.
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
        None => alone::run(boot, &plan, &mut check),
        Some(role) => pair::run(boot, role, &plan, &mut check),
    }
    check.verdict()
}
