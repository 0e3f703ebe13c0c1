//! Tests the answers of the ABI that Xen's public headers leave open. The expected ones were measured
//! on Debian's Xen 4.17 with this guest. On Xen it repeats the measurement; on Pinfold it checks
//! that the answers are the same, except for the differences that [`expected`] lists with their
//! reasons. It fails on any other answer, or on one that the table doesn't have.
//!
//! The word `table` on the command line prints the answers as entries of [`expected`] instead.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod boot;
mod calls;
mod cpu;
mod descriptors;
mod entries;
mod expected;
mod frames;
mod mmu;
mod report;
mod user;

use pinfold_guest::entry::{Boot, memory::Frames};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{fixtures::TableFixture, guest_main, println};
use report::{Hypervisor, Report};

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    if in_container() {
        println!("VERDICT fail guest=probe it is about kernels in ring 3");
        return Exit::Crash;
    }
    let hypervisor = if boot.is_first_domain() { Hypervisor::Xen } else { Hypervisor::Pinfold };
    let mut report = Report::new(hypervisor, boot.has_word("table"));
    let mut fixture = TableFixture::new(Frames::new(boot));
    println!("probe: on {hypervisor:?}, {} free frames", fixture.left());

    boot::registers(&mut report);
    boot::memory(boot, &mut fixture, &mut report);
    boot::shared_info(boot, &mut fixture, &mut report);
    frames::kernel(&mut report);
    calls::versions(&mut report);
    calls::plain(&mut report);
    calls::pointers(&mut report);
    descriptors::probe(&mut fixture, &mut report);
    mmu::pins(&mut fixture, &mut report);
    mmu::roots(&mut fixture, &mut report);
    mmu::updates(&mut fixture, &mut report);
    mmu::va_mappings(&mut fixture, &mut report);
    mmu::extended(&mut fixture, &mut report);
    entries::probe(&mut fixture, &mut report);
    cpu::probe(&mut report);
    user::probe(&mut fixture, &mut report);

    let Report { answers, wrong, unknown, .. } = report;
    let verdict = if wrong == 0 && unknown == 0 { "pass" } else { "fail" };
    println!("VERDICT {verdict} guest=probe answers={answers} wrong={wrong} unknown={unknown}");
    if verdict == "pass" { Exit::PowerOff } else { Exit::Crash }
}
