//! Tests events, time and callbacks of one vCPU: each call with its exact result.
//!
//! The expected answers are those of Debian's Xen 4.17, where the guest is the first domain; a check
//! says so where an unprivileged domain gets another answer. It fails on any other answer, on an
//! event that is lost or delivered at the wrong time, and on a clock or timer that is wrong.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod arguments;
mod callbacks;
mod clock;
mod delivery;
mod poll;
mod ports;
mod record;
mod runstate;
mod signal;
mod timers;
mod user;
mod vectors;
mod virqs;
mod watchdogs;

use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{guest_main, println};

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("events", boot);
    let shared = match event::init(boot) {
        Ok(shared) => shared,
        Err(errno) => {
            println!("VERDICT fail guest=events shared page: {errno}");
            return Exit::Crash;
        }
    };
    let mut fixture = TableFixture::new(Frames::new(boot));
    arguments::run(&mut check);
    ports::run(&mut check);
    virqs::run(&mut check);
    clock::run(shared, &mut check);
    delivery::run(shared, &mut check);
    poll::run(&mut check);
    timers::run(shared, &mut check);
    runstate::run(&mut check);
    watchdogs::run(&mut check);
    if in_container() {
        vectors::run(&mut check);
    } else {
        callbacks::run(&mut check);
    }
    user::run(&mut fixture, &mut check);
    // Last, because the record moves.
    record::run(boot, shared, &mut check);
    check.equal("no event came to a port without a handler", event::strays(), 0);
    check.verdict()
}
