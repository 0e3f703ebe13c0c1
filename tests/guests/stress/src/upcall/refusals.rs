//! Handlers and buffers that don't do what they are for: each pin is refused once, after at most
//! one upcall.

use super::{Counts, NOWHERE, Stray, clear_and_free, equal, make_stray};
use crate::failure::{Failure, expect_refusal};
use crate::scenarios::Fixture;
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

/// The progress marks of a list whose first element is tried for the second time.
const FORGED: u64 = 1 << 31 | 1 << 30;

/// The frame that the handler pins, and the result.
static PIN: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

pub(super) fn run(fixture: &Fixture<'_>, mmu: &mut Mmu<Native>) -> Result<(), Failure> {
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
    fixture.mark(0, "upcall: a mapping in no named region");
    unnamed(mmu)?;
    fixture.mark(0, "upcall: forged marks");
    forged(mmu)?;
    fixture.mark(0, "upcall: buffers that can't be written");
    buffers(mmu)
}

fn enable(handler: alias::Handler) -> Result<(), Failure> {
    alias::enable(handler).map_err(|errno| Error::Refused(errno).into())
}

fn nothing(_: &[Mapping]) {}

/// Enables the upcall again in the handler, which makes the hypervisor drop the pending one.
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

fn addresses() -> Result<(), Failure> {
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

/// A handler that doesn't clear the mapping: the pin is refused.
fn useless(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let Stray { tree, left } = make_stray(mmu, 3, 2)?;
    let before = Counts::now()?;
    let tree = expect_refusal(mmu, tree, Mmu::pin)?;
    before.check_growth("one upcall, then refused", [1, 0, 1, 2])?;
    clear_and_free(mmu, tree, &left)
}

/// The handler pins the same frame: that is refused, without another upcall. Then it clears the
/// mapping, and the first pin succeeds, whatever marks the handler forged.
fn nested(mmu: &mut Mmu<Native>, marks: u64) -> Result<(), Failure> {
    let Stray { tree, .. } = make_stray(mmu, 1, 1)?;
    PIN.store(mmu.mfn(tree.frames()[0]).0, SeqCst);
    let before = Counts::now()?;
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    equal("refused in the handler", RESULT.load(SeqCst) as i64, Known::EINVAL.as_result())?;
    // A list with forged marks isn't counted as healed.
    before.check_growth("a pin in the handler", [1, u64::from(marks == 0), 1, 2])?;
    super::unpin_and_free(mmu, space)
}

/// A mapping that is in use is not cleared, and the pin is refused.
fn live(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let tree = mmu.alloc_tables(1)?;
    let area = mmu.vmap(tree.frames())?;
    let before = Counts::now()?;
    let tree = expect_refusal(mmu, tree, Mmu::pin_without_before_pin)?;
    before.check_growth("a live mapping", [1, 0, 1, 2])?;
    mmu.store(area.start(), 0);
    mmu.vunmap(area)?;
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    super::unpin_and_free(mmu, space)
}

/// The mapping is in no named region: there is no upcall.
fn unnamed(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let tree = mmu.alloc_tables(1)?;
    let before = Counts::now()?;
    // Writable in the direct map.
    let result = pin_raw(mmu.mfn(tree.frames()[0]).0, 0);
    equal("writable at home", result, Known::EINVAL.as_result())?;
    before.check_growth("writable at home", [0, 0, 1, 1])?;
    mmu.free_tables(tree);
    Ok(())
}

/// A first try whose marks say that it is the second one is only refused.
fn forged(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let Stray { tree, left } = make_stray(mmu, 1, 1)?;
    let before = Counts::now()?;
    let result = pin_raw(mmu.mfn(tree.frames()[0]).0, FORGED);
    equal("a forged mark", result, Known::EINVAL.as_result())?;
    before.check_growth("a forged mark", [0, 0, 1, 1])?;
    clear_and_free(mmu, tree, &left)
}

/// A buffer that can't be written: the pin is refused as without the upcall.
fn buffers(mmu: &mut Mmu<Native>) -> Result<(), Failure> {
    let table = mmu.alloc_tables(1)?;
    let space = mmu.pin(table).map_err(|(_, error)| error)?;
    // Read-only because it is a table, and the last words of a mapped page.
    let Vaddr(sealed) = mmu.direct_map_va(space.root());
    let code = trap::event_callback();
    for buffer in [NOWHERE, sealed, NOWHERE - 8, 0] {
        // SAFETY: nothing can be written there, so the handler is never entered.
        unsafe { pinfold::alias_upcall(code, buffer, 8) }.map_err(Error::Refused)?;
        let Stray { tree, left } = make_stray(mmu, 2, 1)?;
        let before = Counts::now()?;
        let tree = expect_refusal(mmu, tree, Mmu::pin)?;
        before.check_growth("a buffer that can't be written", [0, 0, 1, 1])?;
        clear_and_free(mmu, tree, &left)?;
    }
    alias::disable().map_err(Error::Refused)?;
    super::unpin_and_free(mmu, space)
}
