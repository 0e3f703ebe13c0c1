//! Makes calls and causes traps that ask for as much work as possible. The hypervisor must do each in
//! pieces, or one guest would delay all others.
//!
//! `do=` names what is done, separated by commas, and done in this order; without it everything is:
//!
//! * `store`: one emulated store to a page table, after a big tree of tables was unpinned;
//! * `cr3`: `mov cr3` to a root that was never validated, and back;
//! * `clear`: clears a page that was a big root and is partially devalidated;
//! * `vcpu`: the first state of a vCPU, with a root that was never validated;
//! * `churn`: one list of pins and unpins, each of as many entries as go without preemption;
//! * `find`: a multicall of searches for the aliases of many frames;
//! * `refuse`: a multicall of pins that are refused, each with a search for the aliases;
//! * `shootdown`: as many address ranges as one call takes.
//!
//! At the end the tree stays pinned, so that destroying the domain is the last long work. How long
//! others were delayed is in the log's LATENCY records, which the test checks; after each step the
//! guest prints what `pinfold_op stats` says of it. The guest itself fails on a wrong result only.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod lists;
mod roots;
mod tree;

use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES};
use pinfold_guest::entry::{Boot, event, memory::Frames};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::{pinfold, sched::Exit};
use pinfold_guest::raw;
use pinfold_guest::{guest_main, println};
use tree::Tree;

guest_main!(main);

type Step = fn(&mut TableFixture, &Tree, &mut Check);

/// The steps, in order.
const STEPS: [(&str, Step); 8] = [
    ("store", roots::store),
    ("cr3", roots::load),
    ("clear", roots::clear),
    ("vcpu", roots::initialise),
    ("churn", lists::churn),
    ("find", lists::find),
    ("refuse", lists::refuse),
    ("shootdown", lists::shootdown),
];

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("long_calls", boot);
    let names = boot.command_line().split(' ').find_map(|word| word.strip_prefix("do="));
    let mut fixture = TableFixture::new(Frames::new(boot));
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    // SAFETY: switches emulation on, nothing else.
    check.equal("vm_assist", unsafe { raw::call(Hypercall::VmAssist as u64, assist) }, 0);
    check.holds("events", event::init(boot).is_ok());
    let tree = Tree::build(&mut fixture);
    print_longest("start");
    for (name, run) in STEPS {
        if names.is_none_or(|names| names.split(',').any(|word| word == name)) {
            run(&mut fixture, &tree, &mut check);
            print_longest(name);
        }
    }
    check.equal("the last pin", fixture.pin(tree.root, 4), 0);
    check.verdict()
}

/// Prints the longest delays on the machine's processors so far.
fn print_longest(step: &str) {
    if let Ok(stats) = pinfold::stats() {
        println!(
            "LONGEST after={step} ipi_ns={} irq_off_ns={} sched_ns={} preemptions={}",
            stats.ipi_ns, stats.irq_off_ns, stats.sched_ns, stats.preemptions
        );
    }
}
