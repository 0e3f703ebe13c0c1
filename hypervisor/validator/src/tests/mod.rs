//! Tests, by subject. [`machine`] is the machine that they run on.

mod addr;
mod descriptors;
mod entries;
mod flushes;
mod grants;
mod machine;
mod memtype;
mod oracle;
mod ownership;
mod pins;
mod preemption;
mod random;
mod refusals;
mod relinquish;
mod search;
mod shootdowns;
mod stress;
mod updates;

use crate::*;
use machine::{Setup, World, audit, check_caches, check_tlbs, world};
use pinfold_abi::address::PAGE_SIZE;
use std::vec::Vec;

/// Two domains.
const A: DomId = DomId::new(1);
const B: DomId = DomId::new(2);

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const AD: u64 = 0x60;

fn mfn(number: u64) -> Mfn {
    Mfn::new(number)
}

/// The address of a page.
fn page(number: u64) -> Vaddr {
    Vaddr::new(number * PAGE_SIZE)
}

fn slot(number: usize) -> Index {
    Index::new(number)
}

/// A read-only present entry, as the validator stores it.
fn ro(frame: Mfn) -> u64 {
    frame.address() | P | US
}

/// A writable present entry, as the validator stores it.
fn rw(frame: Mfn) -> u64 {
    ro(frame) | RW
}

/// A world whose frames 1..16 are domain A's and 16..24 domain B's; the rest is free.
fn two_domains(setup: Setup) -> &'static World {
    let world = world(setup);
    for number in 1..16 {
        world.assign(mfn(number), A).unwrap();
    }
    for number in 16..24 {
        world.assign(mfn(number), B).unwrap();
    }
    world
}

fn fresh() -> &'static World {
    two_domains(Setup::default())
}

/// Frames of the tree that [`tree`] builds.
const L4: Mfn = Mfn::new(1);
const L3: Mfn = Mfn::new(2);
const L2: Mfn = Mfn::new(3);
const L1: Mfn = Mfn::new(4);
const PAGE: Mfn = Mfn::new(5);

/// Writes a tree of domain A's: address 0 maps [`PAGE`] writable, page 1 read-only.
fn tree(world: &World) {
    let machine = world.platform();
    machine.set(L4, 0, rw(L3));
    machine.set(L3, 0, rw(L2));
    machine.set(L2, 0, rw(L1));
    machine.set(L1, 0, rw(PAGE));
    machine.set(L1, 1, ro(PAGE));
}

fn pin(world: &World, level: Level, frame: Mfn) -> Result<(), Error> {
    world.pin(A, level, frame, &mut Budget::unlimited())
}

fn unpin(world: &World, frame: Mfn) {
    world.unpin(A, frame, &mut Budget::unlimited()).unwrap();
}

fn change(table: Mfn, index: usize, value: u64) -> Update {
    Update {
        dom: A,
        table_owner: A,
        target_owner: A,
        table,
        index: slot(index),
        value,
        preserve_ad: false,
    }
}

fn update(world: &World, table: Mfn, index: usize, value: u64) -> Result<Updated, Error> {
    world.update(change(table, index, value), &mut Budget::unlimited())
}

/// The refusal in a result that must be one.
#[track_caller]
fn refusal<T: core::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
fn cause<T: core::fmt::Debug>(result: Result<T, Error>) -> Cause {
    refusal(result).cause
}

#[track_caller]
fn assert_sound(world: &World, externals: &[ExternalRef]) {
    audit(world, externals, &mut Vec::new());
    check_tlbs(world);
    check_caches(world);
}

fn held(frame: Mfn, held: RefKind) -> ExternalRef {
    ExternalRef { frame, kind: held }
}
