//! Misbehaves as its command line says, so that tests can look at what the neighbours notice:
//!
//! * `do=crash`: leaves the hypervisor no stack to deliver a trap on;
//! * `do=fail`: says that it failed and shuts down with the reason "crash";
//! * `do=spin`: keeps the processor busy for a long while without a single hypercall;
//! * `do=panic`: a Rust panic;
//! * `do=doze`: starts a watchdog that it doesn't feed;
//! * `do=absent`, `do=absent-l1tf`: entries that aren't present and name memory, which a processor
//!   without and with L1TF takes and refuses;
//! * `do=pry`: asks for what takes the whole machine's time, and must not get it;
//! * `do=flood`: has as many reports written as it can, for some seconds;
//! * `do=talk`: doesn't misbehave, but prints more than any buffer holds;
//! * `do=beat`: doesn't misbehave, but measures what the others take of its time.
#![no_std]
#![no_main]

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

/// Turns of the busy loop: some seconds under an emulator, and many timer ticks anywhere.
const TURNS: u64 = 2_000_000_000;

fn main(boot: &Boot) -> Exit {
    let wish = boot.command_line().split(' ').find_map(|word| word.strip_prefix("do="));
    println!("misbehave: {}", wish.unwrap_or("nothing to do"));
    match wish {
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
        Some("panic") => panic!("as told"),
        Some("absent") => absent::run(boot, false),
        Some("absent-l1tf") => absent::run(boot, true),
        Some("pry") => pry(),
        Some("doze") => doze(),
        Some("flood") => flood::run(boot),
        Some("talk") => flood::talk(boot),
        Some("beat") => flood::measure(boot),
        _ => {
            println!("VERDICT fail guest=misbehave reason=unknown-wish");
            Exit::Crash
        }
    }
}

/// Starts a watchdog and doesn't feed it.
fn doze() -> Exit {
    let argument = Watchdog { id: 0, timeout: 1 };
    let args = [SCHEDOP_WATCHDOG, &raw const argument as u64, 0, 0, 0];
    // SAFETY: the call reads its argument.
    let started = unsafe { raw::call(Hypercall::SchedOp as u64, args) };
    println!("misbehave: watchdog {started}");
    loop {
        core::hint::spin_loop();
    }
}

/// Asks for an audit and a dump, which only domains get that may diagnose.
fn pry() -> Exit {
    let refused = (pinfold::audit().err(), pinfold::dump_frames().err());
    let wanted = Some(Errno::from(EPERM));
    if refused == (wanted, wanted) {
        println!("VERDICT pass guest=misbehave");
        return Exit::PowerOff;
    }
    println!("VERDICT fail guest=misbehave answers={refused:?}");
    Exit::Crash
}

/// Traps with a stack pointer where no stack can be: the hypervisor can deliver nothing there.
fn crash() -> ! {
    // SAFETY: nothing of the program runs after it: the trap cannot be delivered.
    unsafe { asm!("mov rsp, 0x1000", "ud2", options(noreturn)) }
}

fn spin() {
    for turn in 0..TURNS {
        core::hint::black_box(turn);
    }
}
