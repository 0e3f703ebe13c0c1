//! Pins in the middle of other work: in a list of one call, and in a multicall. What comes before
//! is done once, and what comes after is done afterwards.

use super::{Counts, NOWHERE, Stray, clear_and_free, equal, make_stray};
use crate::failure::Failure;
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::mmu::{MmuextCmd, MmuextOp, UVMF_ALL, UVMF_INVLPG};
use pinfold_guest::entry::{Native, alias};
use pinfold_guest::fixtures::{RO, RW};
use pinfold_guest::mmu::{Error, Mmu, UnpinnedTables};
use pinfold_guest::platform::Platform;
use pinfold_guest::raw;

/// Trees of one list: every second one has a stray mapping.
const TREES: usize = 5;

pub(super) fn run(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    alias::enable(alias::clear).map_err(Error::Refused)?;
    one_call(mmu)?;
    many_calls(mmu)?;
    no_room_for_progress(mmu)?;
    one_call(mmu)?;
    alias::disable().map_err(Error::Refused)?;
    Ok(())
}

/// Makes trees of one table each, read-only in the direct map.
fn trees(mmu: &mut Mmu<Native>) -> Result<Vec<UnpinnedTables>, Failure> {
    let mut trees = Vec::new();
    for number in 0..TREES {
        let is_stray = number % 2 == 1;
        let Stray { tree, .. } = make_stray(mmu, 1, usize::from(is_stray))?;
        set_home(mmu, &tree, RO)?;
        trees.push(tree);
    }
    Ok(trees)
}

fn set_home(mmu: &mut Mmu<Native>, tree: &UnpinnedTables, flags: u64) -> Result<(), Failure> {
    let frame = tree.frames()[0];
    let entry = (mmu.direct_map_va(frame), mmu.mfn(frame).address() | flags);
    let platform = mmu.platform();
    platform.update_va_mappings(&[entry], UVMF_INVLPG | UVMF_ALL).map_err(Error::Refused)?;
    Ok(())
}

fn ops(mmu: &Mmu<Native>, trees: &[UnpinnedTables], cmd: MmuextCmd) -> Vec<MmuextOp> {
    let mfns = trees.iter().map(|tree| mmu.mfn(tree.frames()[0]).0);
    mfns.map(|arg1| MmuextOp { cmd: cmd as u32, pad: 0, arg1, arg2: 0 }).collect()
}

/// Unpins the trees, which must all be pinned, and frees them.
fn unpin_all(mmu: &mut Mmu<Native>, trees: Vec<UnpinnedTables>) -> Result<(), Failure> {
    // The shim doesn't know of these pins.
    let cleared = mmu.platform().take_cleared().len();
    equal("mappings cleared", cleared, TREES / 2)?;
    let unpins = ops(mmu, &trees, MmuextCmd::UnpinTable);
    // SAFETY: nobody has these tables loaded.
    let (result, done) = unsafe { raw::mmuext_ops(&unpins, domid::SELF.into()) };
    equal("unpinned", (result, done), (0, TREES as u32))?;
    for tree in trees {
        set_home(mmu, &tree, RW)?;
        mmu.free_tables(tree);
    }
    Ok(())
}

fn one_call(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let trees = trees(mmu)?;
    let pins = ops(mmu, &trees, MmuextCmd::PinL1Table);
    let before = Counts::now()?;
    // SAFETY: pins change no mapping.
    let (result, done) = unsafe { raw::mmuext_ops(&pins, domid::SELF.into()) };
    equal("a list of pins", (result, done), (0, TREES as u32))?;
    before.check_growth("a list of pins", [2, 2, 0, 2])?;
    unpin_all(mmu, trees)
}

/// A list can't be suspended where its progress can't be stored: the pin is refused without an
/// upcall, and the next pin works as usual.
fn no_room_for_progress(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let Stray { tree, left } = make_stray(mmu, 1, 1)?;
    set_home(mmu, &tree, RO)?;
    let pin = ops(mmu, core::slice::from_ref(&tree), MmuextCmd::PinL1Table);
    let before = Counts::now()?;
    let args = [pin.as_ptr() as u64, 1, NOWHERE, domid::SELF.into(), 0];
    // SAFETY: as above; nothing is mapped where the count would go.
    let result = unsafe { raw::call(Hypercall::MmuextOp as u64, args) };
    equal("no place for the count", result, Known::EFAULT.as_result())?;
    before.check_growth("no place for the count", [0, 0, 0, 1])?;
    set_home(mmu, &tree, RW)?;
    clear_and_free(mmu, tree, &left)
}

fn many_calls(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let trees = trees(mmu)?;
    let pins = ops(mmu, &trees, MmuextCmd::PinL1Table);
    let mut calls: Vec<MulticallEntry> = pins
        .iter()
        .map(|pin| MulticallEntry {
            op: Hypercall::MmuextOp as u64,
            result: 77,
            args: [core::ptr::from_ref(pin) as u64, 1, 0, domid::SELF.into(), 0, 0],
        })
        .collect();
    let before = Counts::now()?;
    // SAFETY: as above.
    let result = unsafe { raw::multicall(&mut calls) };
    equal("a list of calls", result, 0)?;
    equal("each call", calls.iter().all(|call| call.result == 0), true)?;
    before.check_growth("a list of calls", [2, 2, 0, 2])?;
    unpin_all(mmu, trees)
}
