//! Lists of which every element takes long.

extern crate alloc;

use crate::tree::{Tree, full_table};
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::mmu::{MmuextCmd, MmuextOp};
use pinfold_abi::pinfold::{
    Command, FindAliases, MAX_FIND_FRAMES, Mapping, Range, Shootdown, VERSION,
};
use pinfold_guest::addr::PAGE_SIZE;
use pinfold_guest::fixtures::{Check, RW, TableFixture};
use pinfold_guest::raw::{mmuext_ops, multicall};

/// Calls of a multicall.
const CALLS: usize = 34;

/// Makes a list of pins and unpins of a tree of 8192 entries, which is what one element may validate
/// without being preempted.
pub(crate) fn churn(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    const LEAVES: usize = 15;
    const TURNS: usize = 60;
    let saved = fixture.save();
    let l2 = fixture.frame();
    for slot in 0..LEAVES {
        let l1 = full_table(fixture, tree.page);
        fixture.seal(l1);
        fixture.set(l2, slot, fixture.entry(l1, RW));
    }
    fixture.seal(l2);
    let op = |cmd| MmuextOp { cmd, pad: 0, arg1: fixture.mfn(l2), arg2: 0 };
    let turn = [op(MmuextCmd::PinL2Table as u32), op(MmuextCmd::UnpinTable as u32)];
    let ops: Vec<MmuextOp> = turn.into_iter().cycle().take(TURNS).collect();
    // SAFETY: pins change no mapping.
    let (result, done) = unsafe { mmuext_ops(&ops, domid::SELF.into()) };
    check.equal("pins and unpins", (result, done), (0, TURNS as u32));
    fixture.restore(saved);
}

/// Makes one call many times, in a multicall.
fn many(call: Hypercall, args: [u64; 6]) -> (i64, Vec<i64>) {
    let mut list: Vec<MulticallEntry> =
        (0..CALLS).map(|_| MulticallEntry { op: call as u64, result: 1, args }).collect();
    // SAFETY: the calls are those of this file; none of them maps anything.
    let result = unsafe { multicall(&mut list) };
    (result, list.iter().map(|entry| entry.result).collect())
}

/// Searches for the mappings of one frame, many times, while the tree is pinned.
pub(crate) fn find(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    const ROOM: usize = MAX_FIND_FRAMES as usize;
    check.equal("pin of the tree", fixture.pin(tree.root, 4), 0);
    let frames = alloc::vec![fixture.mfn(tree.l3); MAX_FIND_FRAMES as usize];
    let mut mappings = alloc::vec![Mapping::default(); ROOM];
    let mut asked = FindAliases {
        version: VERSION,
        nr_frames: MAX_FIND_FRAMES,
        frames: frames.as_ptr() as u64,
        mappings: mappings.as_mut_ptr() as u64,
        nr_mappings: ROOM as u32,
        flags: 0,
    };
    let args = [Command::FindAliases as u64, &raw mut asked as u64, 0, 0, 0, 0];
    let (result, results) = many(Hypercall::PinfoldOp, args);
    check.equal("multicall", result, 0);
    check.holds("every search succeeds", results.iter().all(|&result| result == 0));
    check.equal("unpin of the tree", fixture.unpin(tree.root), 0);
}

/// Pins a frame that has many writable mappings, many times.
pub(crate) fn refuse(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    check.equal("pin of the tree", fixture.pin(tree.root, 4), 0);
    let op = MmuextOp {
        cmd: MmuextCmd::PinL1Table as u32,
        pad: 0,
        arg1: fixture.mfn(tree.shared),
        arg2: 0,
    };
    let args = [&raw const op as u64, 1, 0, domid::SELF.into(), 0, 0];
    let (result, results) = many(Hypercall::MmuextOp, args);
    check.equal("multicall", result, 0);
    check.holds("all are refused", results.iter().all(|&r| r == EINVAL.as_result()));
    check.equal("unpin of the tree", fixture.unpin(tree.root), 0);
}

/// Shoots down 64 GiB of unmapped addresses, in as many ranges and pages as one call takes.
pub(crate) fn shootdown(_lab: &mut TableFixture, _tree: &Tree, check: &mut Check) {
    const RANGES: u32 = 4096;
    let pages = (1 << 24) / u64::from(RANGES);
    // A part of the kernel's half where the boot tables end at the second level.
    let base = 0xffff_a000_0000_0000u64;
    let range = |number: u32| Range { start: base + u64::from(number) * pages * PAGE_SIZE, pages };
    let ranges: Vec<Range> = (0..RANGES).map(range).collect();
    let asked = Shootdown {
        version: VERSION,
        nr_ranges: RANGES,
        ranges: ranges.as_ptr() as u64,
        ..Shootdown::default()
    };
    let args = [Command::Shootdown as u64, &raw const asked as u64, 0, 0, 0, 0];
    let (result, results) = many(Hypercall::PinfoldOp, args);
    check.equal("multicall", result, 0);
    check.holds("every shootdown succeeds", results.iter().all(|&result| result == 0));
}
