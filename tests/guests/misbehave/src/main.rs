//! Misbehaves as `do=` on its command line says, so that tests can see what other domains notice:
//!
//! * `crash`: traps where the hypervisor has no stack to deliver the trap on;
//! * `fail`: prints a failure and shuts down with the reason "crash";
//! * `spin`: keeps the processor busy for a long time without a hypercall;
//! * `panic`: panics;
//! * `watchdog`: starts a watchdog and never sets it again;
//! * `absent`, `absent-l1tf`: makes entries that aren't present but name memory, which must be
//!   accepted on a processor without L1TF and refused on one with it;
//! * `diagnose`: asks for an audit and a dump without the right to them, and must be refused;
//! * `flood`: causes as many reports as it can, for some seconds;
//! * `print`: doesn't misbehave, but prints more than any buffer holds;
//! * `measure`: doesn't misbehave, but measures how long it can't run because of others.
//!
//! `absent`, `diagnose`, `flood`, `print` and `measure` pass or fail by themselves; of the others the
//! test looks at how the domain ends.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod absent;
mod flood;

use core::arch::asm;
use pinfold_abi::errno::Errno::EPERM;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::sched::{SCHEDOP_WATCHDOG, Watchdog};
use pinfold_guest::hypercall::{Errno, pinfold, sched::Exit};
use pinfold_guest::raw;
use pinfold_guest::{entry::Boot, guest_main, println};

guest_main!(main);

/// Iterations of the busy loop: some seconds under an emulator, and many timer ticks anywhere.
const TURNS: u64 = 2_000_000_000;

fn main(boot: &Boot) -> Exit {
    let action = boot.command_line().split(' ').find_map(|word| word.strip_prefix("do="));
    println!("misbehave: {}", action.unwrap_or("no action"));
    match action {
        Some("crash") => crash(),
        Some("fail") => {
            println!("VERDICT fail guest=misbehave");
            Exit::Crash
        }
        Some("spin") => {
            spin();
            println!("VERDICT pass guest=misbehave turns={TURNS}");
            Exit::PowerOff
        }
        Some("panic") => panic!("asked for by the command line"),
        Some("absent") => absent::run(boot, false),
        Some("absent-l1tf") => absent::run(boot, true),
        Some("diagnose") => diagnose(),
        Some("watchdog") => start_watchdog(),
        Some("flood") => flood::run(boot),
        Some("print") => flood::print(boot),
        Some("measure") => flood::measure(boot),
        _ => {
            println!("VERDICT fail guest=misbehave reason=unknown-action");
            Exit::Crash
        }
    }
}

/// Starts a watchdog, and never sets it again.
fn start_watchdog() -> Exit {
    let argument = Watchdog { id: 0, timeout: 1 };
    let args = [SCHEDOP_WATCHDOG, &raw const argument as u64, 0, 0, 0];
    // SAFETY: the call reads its argument.
    let started = unsafe { raw::call(Hypercall::SchedOp as u64, args) };
    println!("misbehave: watchdog {started}");
    loop {
        core::hint::spin_loop();
    }
}

/// Asks for an audit and a dump, which only domains with the right to diagnose get.
fn diagnose() -> Exit {
    let refused = (pinfold::audit().err(), pinfold::dump_frames().err());
    let wanted = Some(Errno::from(EPERM));
    if refused == (wanted, wanted) {
        println!("VERDICT pass guest=misbehave");
        return Exit::PowerOff;
    }
    println!("VERDICT fail guest=misbehave answers={refused:?}");
    Exit::Crash
}

/// Traps with a stack pointer where nothing is mapped: the hypervisor can't deliver the trap.
fn crash() -> ! {
    // SAFETY: no code runs after it, because the trap can't be delivered.
    unsafe { asm!("mov rsp, 0x1000", "ud2", options(noreturn)) }
}

fn spin() {
    for turn in 0..TURNS {
        core::hint::black_box(turn);
    }
}
