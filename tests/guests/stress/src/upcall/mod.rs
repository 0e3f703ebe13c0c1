//! Phase u: the shim's index misses a dead mapping, and the alias upcall resolves the pin.
//!
//! The index is made to lose mappings on purpose. Without the upcall such a pin is refused. With
//! it the guest is told of the mapping during the pin, clears it, and the pin succeeds. The rest of
//! the phase is what can go wrong meanwhile: handlers that do nothing, pin something or go somewhere
//! else, buffers that aren't mapped, forged progress marks.

mod list;
mod refusals;
mod together;

use crate::failure::Failed;
use crate::failure::{Failure, expect_refusal};
use crate::hostile;
use crate::scenarios::Fixture;
use alloc::vec::Vec;
use core::fmt::Debug;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::pinfold::{Range, Stats};
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::{Native, alias};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::{AddressSpace, Error, Leaf, Mmu, UnpinnedTables};
use pinfold_guest::platform::Platform;
use pinfold_guest::println;
use pinfold_guest::vmap::Policy;

/// Nothing is mapped here.
const NOWHERE: u64 = 0xffff_a000_0000_0000;
/// Any address of the lower half.
const VA: Vaddr = Vaddr(0x0000_1234_5678_9000);

/// A tree whose frames have dead mappings that the shim doesn't know of.
struct Stray {
    tree: UnpinnedTables,
    /// Addresses of the mappings.
    left: Vec<Vaddr>,
}

/// The hypervisor's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    upcalls: u64,
    healed: u64,
    refused: u64,
    aliases: u64,
}

impl Counts {
    fn now() -> Result<Counts, Failure> {
        let stats = pinfold::stats().map_err(Error::Refused)?;
        let Stats { upcalls, healed, pins_refused: refused, aliases, .. } = stats;
        Ok(Counts { upcalls, healed, refused, aliases })
    }

    /// Checks by how much the counters have grown.
    fn check_growth(self, what: &'static str, by: [u64; 4]) -> Result<(), Failure> {
        let now = Counts::now()?;
        let pairs = [
            (now.upcalls, self.upcalls),
            (now.healed, self.healed),
            (now.refused, self.refused),
            (now.aliases, self.aliases),
        ];
        equal(what, pairs.map(|(now, before)| now - before), by)
    }
}

fn equal<T: Debug + PartialEq>(what: &'static str, got: T, wanted: T) -> Result<(), Failure> {
    if got == wanted {
        return Ok(());
    }
    println!("upcall: {what}: {got:?} instead of {wanted:?}");
    Err(Failure::Other(what))
}

/// Runs the phase; where the call doesn't exist, it is skipped.
pub(crate) fn run(fixture: &Fixture<'_>, rounds: u64) -> Result<(), Failed> {
    match alias::disable() {
        Err(errno) if errno == Known::ENOSYS => {
            println!("UPCALL skipped: there is no such call here");
            return Ok(());
        }
        other => other.map_err(|errno| println!("upcall: {errno}")).map_err(|()| Failed)?,
    }
    let free = fixture.mmu().free_frames();
    let before = fixture.mmu().stats();
    let result = run_parts(fixture, rounds);
    let _ = alias::disable();
    let done = fixture.mmu().stats() - before;
    if let Err(wrong) = result {
        println!("upcall: {wrong}");
        return Err(Failed);
    }
    together::run(fixture, rounds)?;
    let counts = Counts::now().map_err(|_| Failed)?;
    println!(
        "UPCALL rounds={rounds} upcalls={} healed={} by_shim={}",
        counts.upcalls, counts.healed, done.cleared_by_upcall
    );
    let mut mmu = fixture.mmu();
    if mmu.set_policy(Policy::Lazy).is_err() || mmu.free_frames() != free {
        println!("upcall: {free} frames were free, now {}", mmu.free_frames());
        return Err(Failed);
    }
    drop(mmu);
    hostile::audit().map(drop)
}

fn run_parts(fixture: &Fixture<'_>, rounds: u64) -> Result<(), Failure> {
    let mut mmu = fixture.mmu();
    mmu.set_policy(Policy::Targeted)?;
    // Lists of pins go around the shim: they would meet what earlier phases left in slots.
    mmu.purge_kmap()?;
    for round in 0..rounds.div_ceil(10) {
        let level = (round % 4 + 1) as u8;
        // Otherwise the shim would do so during a pin, and clear the mapping that is tested.
        mmu.purge_vmap()?;
        fixture.mark(round, "upcall: off");
        pin_without_upcall(&mut mmu, level)?;
        fixture.mark(round, "upcall: on");
        alias::enable(alias::clear).map_err(Error::Refused)?;
        pin_with_upcall(&mut mmu, level)?;
        alias::disable().map_err(Error::Refused)?;
    }
    refusals::run(fixture, &mut mmu)?;
    list::run(&mut mmu)?;
    mmu.purge_vmap()?;
    Ok(())
}

/// Makes a tree of this level, whose topmost `count` tables have a mapping that the index misses.
fn make_stray(mmu: &mut Mmu<Native>, level: u8, count: usize) -> Result<Stray, Failure> {
    let frames: Vec<Pfn> = (0..count).map(|_| mmu.alloc_frame()).collect::<Result<_, _>>()?;
    let mut left = Vec::new();
    for &frame in &frames {
        let area = mmu.vmap(&[frame])?;
        left.push(area.start());
        mmu.store(area.start(), frame.0);
        mmu.vunmap(area)?;
        mmu.lose_lazy(frame);
    }
    for &frame in frames.iter().rev() {
        mmu.free_frame(frame);
    }
    let mut tree = mmu.alloc_tables(level)?;
    // Read-only: no alias.
    let leaf = Leaf { frame: tree.frames()[0], writable: false, user: false };
    mmu.map_in(&mut tree, VA, leaf)?;
    equal("the freed frames are the tables", tree.frames().starts_with(&frames), true)?;
    Ok(Stray { tree, left })
}

/// Clears the mappings of a tree that was refused, and frees it.
fn clear_and_free(
    mmu: &mut Mmu<Native>,
    tree: UnpinnedTables,
    left: &[Vaddr],
) -> Result<(), Failure> {
    let ranges: Vec<Range> = left.iter().map(|va| Range { start: va.0, pages: 1 }).collect();
    mmu.platform().shootdown(&ranges).map_err(Error::Refused)?;
    mmu.free_tables(tree);
    Ok(())
}

fn unpin_and_free(mmu: &mut Mmu<Native>, space: AddressSpace) -> Result<(), Failure> {
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}

/// Without a handler the pin is refused.
fn pin_without_upcall(mmu: &mut Mmu<Native>, level: u8) -> Result<(), Failure> {
    let Stray { tree, left } = make_stray(mmu, level, 1)?;
    let before = Counts::now()?;
    let tree = expect_refusal(mmu, tree, Mmu::pin)?;
    before.check_growth("refused without a handler", [0, 0, 1, 1])?;
    clear_and_free(mmu, tree, &left)
}

/// The handler clears the mapping, and the pin succeeds: with one mapping, and with one in each
/// table.
fn pin_with_upcall(mmu: &mut Mmu<Native>, level: u8) -> Result<(), Failure> {
    for count in [1, level] {
        let Stray { tree, left } = make_stray(mmu, level, count.into())?;
        let frames = tree.frames().to_vec();
        let (before, stats) = (Counts::now()?, mmu.stats());
        let space = mmu.pin(tree).map_err(|(_, error)| error)?;
        let count = u64::from(count);
        before.check_growth("healed", [count, 1, 0, count])?;
        equal("the shim knows of the upcalls", (mmu.stats() - stats).cleared_by_upcall, count)?;
        for (frame, va) in frames.into_iter().zip(left) {
            let found = mmu.find_aliases(&[frame]).map_err(Error::Refused)?;
            equal("nothing is left there", found.iter().any(|found| found.va == va.0), false)?;
        }
        unpin_and_free(mmu, space)?;
    }
    Ok(())
}
