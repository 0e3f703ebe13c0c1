//! Tests several vCPUs of one domain: start and stop, events, flushes, and all vCPUs changing the
//! same page tables at once.
//!
//! `rounds=N` is how often races are tried (default 400), `seed=S` repeats the random choices, and
//! `phases=` chooses the parts. It fails on a lost event, a write through a translation that should
//! have been flushed, a wrong answer, or an audit that finds something. With `stale` on the command
//! line, a write through a translation that nobody flushed must have been seen: that shows that
//! the vCPUs really run at once, and that the test can fail. At the end the last vCPU shuts the
//! domain down while the others spin.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod bringup;
mod fair;
mod ipi;
mod pages;
mod roots;
mod selfmod;
mod stale;
mod sync;
mod tables;
mod tlb;
mod updown;

use pages::Pages;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event, smp};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::hypercall::sched::{self, Exit};
use pinfold_guest::{guest_main, println};
use sync::VcpuPool;

guest_main!(main);

/// The options on the command line.
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) stale: bool,
}

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("smp", boot);
    if let Err(errno) = event::init(boot) {
        println!("VERDICT fail guest=smp shared page: {errno}");
        return Exit::Crash;
    }
    let count = smp::count();
    if count < 2 {
        println!("VERDICT fail guest=smp it needs two vCPUs at least");
        return Exit::Crash;
    }
    let plan = Plan {
        rounds: boot.number("rounds", 400),
        seed: boot.number("seed", 1),
        stale: boot.has_word("stale"),
    };
    let frames = Frames::new(boot);
    let mut fixture = TableFixture::new(frames);
    bringup::refused(&frames, &mut check);
    let Some(pool) = bringup::run(count, &mut check) else { return check.verdict() };
    for phase in boot.option("phases").unwrap_or("iuftprsm").chars() {
        let saved = fixture.save();
        println!("SMP phase {phase}");
        match phase {
            'i' => ipi::run(&pool, &plan, &mut check),
            'u' => updown::run(&pool, &mut check),
            'f' => fair::run(&pool, &mut check),
            't' => tlb::run(&pool, &Pages::new(&mut fixture, 4), &plan, &mut check),
            'p' => tables::run(&pool, &Pages::new(&mut fixture, 24), &plan, &mut check),
            'r' => roots::run(&frames, &pool, &Pages::new(&mut fixture, 9), &plan, &mut check),
            's' => stale::run(&frames, &pool, &Pages::new(&mut fixture, 6), &plan, &mut check),
            'm' => selfmod::run(&pool, &Pages::new(&mut fixture, 8), &plan, &mut check),
            _ => check.holds("the phase exists", false),
        }
        fixture.restore(saved);
    }
    match pinfold::audit() {
        Ok(audit) => check.equal("the hypervisor's audit", audit.wrong, 0),
        Err(_) => check.holds("the audit exists", check.on_xen()),
    }
    check.equal("no event came to a port without a handler", event::strays(), 0);
    end(&pool, &check)
}

/// The last vCPU shuts the domain down while the others spin.
fn end(pool: &VcpuPool, check: &Check) -> Exit {
    let exit = check.verdict();
    let last = pool.count() - 1;
    pool.run(&|id| {
        if id == last {
            sched::shutdown(exit);
        }
        loop {
            core::hint::spin_loop();
        }
    });
    exit
}
