//! Measures what each operation costs.
//!
//! Under QEMU's `-icount shift=0` the time stamp counter counts instructions, so the numbers repeat
//! exactly. On any other machine they are its cycles, good for ratios only. Each row is the mean of
//! many iterations, less the cost of the empty loop. It fails if an operation gives a wrong result.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod memory;
mod meter;
mod traps;

use meter::Meter;
use pinfold_guest::entry::{Boot, memory::Frames};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{fixtures::TableFixture, guest_main, println};

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    let meter = Meter::new(boot.number("turns", 200));
    let mut fixture = TableFixture::new(Frames::new(boot));
    traps::hypercall(&meter);
    memory::updates(&meter, &mut fixture);
    memory::pins(&meter, &mut fixture);
    memory::stores(&meter, &mut fixture);
    traps::forced_cpuid(&meter);
    traps::exception(&meter);
    traps::system_call(&meter, &mut fixture);
    println!("VERDICT pass guest=bench");
    Exit::PowerOff
}
