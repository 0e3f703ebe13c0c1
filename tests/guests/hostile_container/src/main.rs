//! Tries every instruction, register, port, root and address by which a kernel in ring 0 could leave
//! the hardware container, or hold its processor.
//!
//! `mode=NAME` does one action that must end this domain and nothing else (see [`deadly`]); it fails if
//! the domain survives. Some of the actions are loops, which the manifest's `lifetime-ms` ends. Without
//! it the guest does everything that it must survive: each attempt must end as `docs/container.md`
//! says, in an exception of exactly one vector, in an error, or without effect. With a second vCPU it
//! changes code while the hypervisor decodes it. `kvm=1` says that Pinfold is a KVM guest.
//!
//! It fails in ring 3, where nothing of this can be tested.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod attempt;
mod bytes;
mod control;
mod deadly;
mod instructions;
mod interrupts;
mod memory;
mod msrs;
mod ports;
mod program;
mod roots;

use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{guest_main, println};

guest_main!(main);

/// A part of the test.
type Part = fn(&mut TableFixture, &mut Check);

fn main(boot: &Boot) -> Exit {
    if !in_container() {
        println!("VERDICT fail guest=hostile_container not in the container");
        return Exit::Crash;
    }
    if let Err(errno) = event::init(boot) {
        println!("VERDICT fail guest=hostile_container shared page: {errno}");
        return Exit::Crash;
    }
    let mut fixture = TableFixture::new(Frames::new(boot));
    if let Some(name) = boot.option("mode") {
        println!("hostile_container: {name}");
        deadly::run(name, &mut fixture);
        println!("VERDICT fail guest=hostile_container mode={name} still alive");
        return Exit::Crash;
    }
    let mut check = Check::new("hostile_container", boot);
    instructions::run(&mut check, boot.option("kvm").is_some());
    println!("CONTAINER instructions: {} wrong so far", check.wrong());
    let parts: [(&str, Part); 9] = [
        ("control registers", |_, check| control::run(check)),
        ("MSRs", msrs::run),
        ("ports", |_, check| ports::run(check)),
        ("roots", roots::run),
        ("memory", memory::run),
        ("interrupts", |_, check| interrupts::run(check)),
        ("programs", program::run),
        ("bytes", bytes::run),
        ("control registers again", |_, check| control::check_unchanged(check)),
    ];
    for (what, part) in parts {
        part(&mut fixture, &mut check);
        println!("CONTAINER {what}: {} wrong so far", check.wrong());
    }
    check.verdict()
}
