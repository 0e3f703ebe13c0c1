//! Handlers and buffers that don't do what they are for: each pin is refused, once, after one
//! upcall at most.

use super::{Counts, NOWHERE, Stray, equal, give_up, stray};
use crate::scenarios::Fixture;
use crate::violation::{Wrong, refuse};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::HYPERVISOR_START;
use pinfold_abi::mmu::{MmuextCmd, MmuextOp};
use pinfold_abi::pinfold::{MAX_UPCALL_MAPPINGS, Mapping};
use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::{Native, alias, trap};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::{Error, Mmu};
use pinfold_guest::raw;

/// The marks of a list whose first element is tried again.
const FORGED: u64 = 1 << 31 | 1 << 30;

/// What the handler pins, and what came of it.
static PIN: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

pub(super) fn run(fixture: &Fixture<'_>, mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    fixture.mark(0, "upcall: bad addresses");
    addresses()?;
    fixture.mark(0, "upcall: handlers that don't help");
    for handler in [nothing as alias::Handler, enables_again, disables] {
        enable(handler)?;
        useless(mmu)?;
    }
    fixture.mark(0, "upcall: a pin in the handler");
    for marks in [0, FORGED] {
        enable(if marks == 0 { pins } else { pins_forged })?;
        nested(mmu, marks)?;
    }
    fixture.mark(0, "upcall: a live mapping");
    enable(alias::clear)?;
    live(mmu)?;
    fixture.mark(0, "upcall: a mapping that nobody named");
    unnamed(mmu)?;
    fixture.mark(0, "upcall: forged marks");
    forged(mmu)?;
    fixture.mark(0, "upcall: buffers that can't be written");
    buffers(mmu)
}

fn enable(handler: alias::Handler) -> Result<(), Wrong> {
    alias::enable(handler).map_err(|errno| Error::Refused(errno).into())
}

fn nothing(_: &[Mapping]) {}

/// Makes the hypervisor forget in the handler what it waits for.
fn enables_again(_: &[Mapping]) {
    let _ = alias::enable(enables_again);
}

fn disables(_: &[Mapping]) {
    let _ = alias::disable();
}

fn pin_raw(mfn: u64, marks: u64) -> i64 {
    let op = MmuextOp { cmd: MmuextCmd::PinL1Table as u32, pad: 0, arg1: mfn, arg2: 0 };
    let args = [(&raw const op) as u64, 1 | marks, 0, domid::SELF.into(), 0];
    // SAFETY: a pin changes no mapping.
    unsafe { raw::call(Hypercall::MmuextOp as u64, args) }
}

fn pins(found: &[Mapping]) {
    RESULT.store(pin_raw(PIN.load(SeqCst), 0) as u64, SeqCst);
    alias::clear(found);
}

fn pins_forged(found: &[Mapping]) {
    RESULT.store(pin_raw(PIN.load(SeqCst), FORGED) as u64, SeqCst);
    alias::clear(found);
}

fn addresses() -> Result<(), Wrong> {
    let code = trap::event_callback();
    for (address, buffer, room) in [
        (HYPERVISOR_START, NOWHERE, 8),
        (1 << 47, NOWHERE, 8),
        (code, HYPERVISOR_START - 8, 8),
        (code, HYPERVISOR_START + 8, 8),
        (code, u64::MAX - 64, 8),
        (code, (1 << 47) - 64, 8),
        (code, NOWHERE, 0),
        (code, NOWHERE, MAX_UPCALL_MAPPINGS + 1),
        (code, NOWHERE, u32::MAX),
    ] {
        // SAFETY: it must be refused.
        let result = unsafe { pinfold::alias_upcall(address, buffer, room) };
        equal("a bad address", result, Err(Known::EINVAL.into()))?;
    }
    Ok(())
}

/// The guest is told, and all is as it was.
fn useless(mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    let Stray { tree, left } = stray(mmu, 3, 2)?;
    let before = Counts::now()?;
    let tree = refuse(mmu, tree, Mmu::pin)?;
    before.grew("told once, then refused", [1, 0, 1, 2])?;
    give_up(mmu, tree, &left)
}

/// The same frame pinned in the handler: refused there, without another upcall; then it is cleared
/// and the first pin goes through, whatever the handler forged.
fn nested(mmu: &mut Mmu<Native>, marks: u64) -> Result<(), Wrong> {
    let Stray { tree, .. } = stray(mmu, 1, 1)?;
    PIN.store(mmu.mfn(tree.frames()[0]).0, SeqCst);
    let before = Counts::now()?;
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    equal("refused in the handler", RESULT.load(SeqCst) as i64, Known::EINVAL.as_result())?;
    // Who forges the mark has no pin that could be called healed.
    before.grew("a pin in the handler", [1, u64::from(marks == 0), 1, 2])?;
    super::end(mmu, space)
}

/// A mapping that is used is left alone, and the pin refused.
fn live(mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    let tree = mmu.alloc_tables(1)?;
    let area = mmu.vmap(tree.frames())?;
    let before = Counts::now()?;
    let tree = refuse(mmu, tree, Mmu::pin_without_before_pin)?;
    before.grew("a live mapping", [1, 0, 1, 2])?;
    mmu.store(area.start(), 0);
    mmu.vunmap(area)?;
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    super::end(mmu, space)
}

/// What is in the way is in no named range: the guest is not told.
fn unnamed(mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    let tree = mmu.alloc_tables(1)?;
    let before = Counts::now()?;
    // Writable at its home.
    let result = pin_raw(mmu.mfn(tree.frames()[0]).0, 0);
    equal("writable at home", result, Known::EINVAL.as_result())?;
    before.grew("writable at home", [0, 0, 1, 1])?;
    mmu.free_tables(tree);
    Ok(())
}

/// A first try that calls itself a second one is only refused.
fn forged(mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    let Stray { tree, left } = stray(mmu, 1, 1)?;
    let before = Counts::now()?;
    let result = pin_raw(mmu.mfn(tree.frames()[0]).0, FORGED);
    equal("a forged mark", result, Known::EINVAL.as_result())?;
    before.grew("a forged mark", [0, 0, 1, 1])?;
    give_up(mmu, tree, &left)
}

/// The pin is refused as if there were no upcall.
fn buffers(mmu: &mut Mmu<Native>) -> Result<(), Wrong> {
    let table = mmu.alloc_tables(1)?;
    let space = mmu.pin(table).map_err(|(_, error)| error)?;
    // Read-only while it is a table, and the last words of a page that is mapped.
    let Vaddr(sealed) = mmu.direct_map_va(space.root());
    let code = trap::event_callback();
    for buffer in [NOWHERE, sealed, NOWHERE - 8, 0] {
        // SAFETY: nothing can be written there, so that nothing is entered.
        unsafe { pinfold::alias_upcall(code, buffer, 8) }.map_err(Error::Refused)?;
        let Stray { tree, left } = stray(mmu, 2, 1)?;
        let before = Counts::now()?;
        let tree = refuse(mmu, tree, Mmu::pin)?;
        before.grew("a buffer that can't be written", [0, 0, 1, 1])?;
        give_up(mmu, tree, &left)?;
    }
    alias::disable().map_err(Error::Refused)?;
    super::end(mmu, space)
}
