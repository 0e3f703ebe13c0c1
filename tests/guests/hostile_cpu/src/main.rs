//! Tests registers, stacks and descriptors with any contents, in all situations.
//!
//! `do=NAME` does one action that must end this domain and nothing else (see [`deadly`]); it fails if
//! the domain survives. Without it the guest does everything that it must survive, and prints each
//! outcome as a line `CPU what: outcome`, for comparison between hypervisors; it fails on a wrong
//! outcome where the right one is known.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod deadly;
mod descriptors;
mod iret;
mod local_table;
mod outcome;
mod secondary;
mod selectors;
mod user;

use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{guest_main, println};

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    if in_container() {
        println!("VERDICT fail guest=hostile_cpu it is about kernels in ring 3");
        return Exit::Crash;
    }
    if let Err(errno) = event::init(boot) {
        println!("VERDICT fail guest=hostile_cpu shared page: {errno}");
        return Exit::Crash;
    }
    let mut fixture = TableFixture::new(Frames::new(boot));
    if let Some(name) = boot.option("do") {
        println!("hostile_cpu: {name}");
        deadly::run(name, boot, &mut fixture);
        println!("VERDICT fail guest=hostile_cpu do={name} still alive");
        return Exit::Crash;
    }
    let mut check = Check::new("hostile_cpu", boot);
    iret::run(&mut check);
    selectors::run(&mut fixture, &mut check);
    descriptors::run(&mut fixture, &mut check);
    local_table::run(&mut fixture, &mut check);
    user::run(&mut fixture, &mut check);
    secondary::run(&mut fixture, &mut check);
    check.verdict()
}
