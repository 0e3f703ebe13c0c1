//! Every recorded flush reaches the guest's ASIDs (`INV-TLB`).
//!
//! The guest on CPU 0 unmaps a page, flushes nothing, and takes the page as a table. On CPU 1 it stores
//! through what its TLB remembers. A model fails if such a store hits the table. Each is run with one
//! ASID a CPU, which is used up at once, and with many. For each thing that can be forgotten, a model
//! must fail.

use super::container::{Forgets, World};
use loom::thread;

/// What the guest and the hypervisor do on CPU 1 meanwhile.
type Other = fn(&World);

/// CPU 1 is flushed by an IPI, if at all.
const STORES: Other = |world| {
    world.store(1);
    world.store(1);
};
/// CPU 1 flushes by itself, and may be spared the IPI.
const STORES_AND_FLUSHES: Other = |world| {
    world.store(1);
    world.flush(1);
    world.store(1);
};
/// CPU 1 leaves the domain, and isn't flushed with the others.
const LEAVES_AND_COMES_BACK: Other = |world| {
    world.leave_domain(1);
    world.enter_domain(1);
    world.store(1);
};
/// The vCPU on CPU 1 gets a root that doesn't map the page.
const CHANGES_ROOT: Other = |world| {
    world.store(1);
    world.change_root(1);
    world.store(1);
};

const ONE: u32 = 2;
const MANY: u32 = 16;

fn race(asids: u32, forgets: Forgets, other: Other) {
    super::model(move || {
        let world = World::new(asids, forgets);
        let there = {
            let world = world.clone();
            thread::spawn(move || other(&world))
        };
        world.take_page();
        world.store(0);
        there.join().unwrap();
        world.store(1);
    });
}

#[test]
fn loom_asids_are_flushed_by_ipi() {
    race(ONE, Forgets::Nothing, STORES);
    race(MANY, Forgets::Nothing, STORES);
}

#[test]
fn loom_asids_are_flushed_by_their_cpu() {
    race(ONE, Forgets::Nothing, STORES_AND_FLUSHES);
    race(MANY, Forgets::Nothing, STORES_AND_FLUSHES);
}

#[test]
fn loom_asids_are_flushed_when_a_cpu_leaves() {
    race(ONE, Forgets::Nothing, LEAVES_AND_COMES_BACK);
    race(MANY, Forgets::Nothing, LEAVES_AND_COMES_BACK);
}

#[test]
fn loom_asids_of_an_old_root_are_not_used() {
    race(ONE, Forgets::Nothing, CHANGES_ROOT);
    race(MANY, Forgets::Nothing, CHANGES_ROOT);
}

#[test]
#[should_panic(expected = "a stale translation hits a table")]
fn loom_a_flush_that_forgets_the_asids_is_caught() {
    race(MANY, Forgets::ToRetireAll, STORES);
}

#[test]
#[should_panic(expected = "a stale translation hits a table")]
fn loom_a_departure_that_forgets_the_asids_is_caught() {
    race(MANY, Forgets::ToRetireAll, LEAVES_AND_COMES_BACK);
}

#[test]
#[should_panic(expected = "a stale translation hits a table")]
fn loom_a_vmrun_with_the_old_asid_is_caught() {
    race(MANY, Forgets::TheNewAsid, STORES);
}

#[test]
#[should_panic(expected = "a stale translation hits a table")]
fn loom_an_asid_that_comes_round_unflushed_is_caught() {
    race(ONE, Forgets::TlbControl, STORES);
}

#[test]
#[should_panic(expected = "a translation of another root")]
fn loom_a_root_with_the_old_asid_is_caught() {
    race(MANY, Forgets::ToRetireOne, CHANGES_ROOT);
}
