//! LDT faults on the way back to the guest: the hypervisor maps a page of the LDT when the processor
//! first uses it. That may be at `iretq` in the hypervisor, or when it loads a selector that was in
//! use before a context switch.

use crate::descriptors::{CODE, DATA, set_ldt};
use crate::iret::{good_frame, return_by};
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::{IretFrame, SEGBASE_GS_USER_SEL};
use pinfold_guest::addr::PAGE_SIZE;
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::entry::{time, trap};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw;

/// Selectors of the LDT's first two entries, as the guest kernel uses them.
const CODE_SELECTOR: u64 = 0x4;
const DATA_SELECTOR: u64 = 0xf;
/// An unmapped address.
const NOWHERE: u64 = 0x1000;

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let (table, data) = (fixture.frame(), fixture.frame());
    for frame in [table, data] {
        fixture.set(frame, 0, CODE);
        fixture.set(frame, 1, DATA);
    }
    fixture.seal(table);
    let (good_base, writable_base) = (fixture.va(table).0, fixture.va(data).0);
    for (place, base, entries) in [
        ("a good page", good_base, 512),
        ("no page", NOWHERE, 512),
        ("a writable page", writable_base, 512),
        ("a short table", good_base, 1),
    ] {
        returns(check, place, base, entries);
        selectors(check, place, base, entries);
    }
    check.equal("no LDT", set_ldt(0, 0), 0);
    fixture.unseal(table);
    check.equal("the page can be made writable", fixture.unseal(data), 0);
}

/// Returns to code and stacks of the LDT: before any page of it was used, and once more.
fn returns(check: &mut Check, place: &str, base: u64, entries: u64) {
    let frames = [
        ("cs", IretFrame { cs: CODE_SELECTOR, ..good_frame() }),
        ("ss", IretFrame { ss: DATA_SELECTOR, ..good_frame() }),
        ("cs and ss", IretFrame { cs: CODE_SELECTOR, ss: DATA_SELECTOR, ..good_frame() }),
    ];
    for (what, frame) in frames {
        // Makes the hypervisor drop the pages that it has mapped.
        check.equal("set_ldt", set_ldt(base, entries), 0);
        for time in ["first", "second"] {
            // Another fault, so that cr2 has another address than the one that is expected next.
            touch_nothing(check);
            match return_by(frame) {
                Ok(()) => check.holds("it ends with a trap", false),
                Err(Trap { vector, error, cs, cr2, .. }) => {
                    // Only a page fault has an address, and the LDT's address differs between hypervisors.
                    let at = match (vector, cr2.wrapping_sub(base)) {
                        (14, offset @ 0..PAGE_SIZE) => offset,
                        (14, _) => u64::MAX,
                        _ => 0,
                    };
                    println!(
                        "CPU return by {what} in {place}, {time} time: #{vector} error={error:#x} \
                         cs={cs:#x} at={at:#x}"
                    );
                    check.holds("the address of a fault is the guest's own", at != u64::MAX);
                }
            }
        }
    }
}

/// Causes a page fault at an address far from all others.
fn touch_nothing(check: &mut Check) {
    const ELSEWHERE: u64 = 0x5555_5000;
    // SAFETY: nothing is mapped there, and the fault is caught.
    let read = unsafe { catch(|| asm!("mov al, [{}]", in(reg) ELSEWHERE, out("al") _)) };
    check.equal("a fault elsewhere", read.err().map(|trap| trap.cr2), Some(ELSEWHERE));
}

/// Loads selectors of the LDT, makes the hypervisor drop its pages, sleeps, and prints what the
/// selectors are afterwards.
fn selectors(check: &mut Check, place: &str, base: u64, entries: u64) {
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let before = trap::failsafes();
    // SAFETY: the bases and limits of DS and ES are not used, and neither is FS.
    let loaded = unsafe {
        catch(|| asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) DATA_SELECTOR))
    };
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let _ = time::sleep(2_000_000);
    let (ds, es, fs): (u64, u64, u64);
    // SAFETY: reads, and loads null selectors.
    unsafe {
        asm!(
            "mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs",
            "xor {3:e}, {3:e}", "mov ds, {3:e}", "mov es, {3:e}", "mov fs, {3:e}",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) _, options(nostack)
        );
    }
    let loaded = loaded.is_ok();
    let failsafes = trap::failsafes() - before;
    println!(
        "CPU selectors in {place}: loaded={loaded} ds={ds:#x} es={es:#x} fs={fs:#x} \
         failsafes={failsafes}"
    );
    // The user's GS selector, which the hypervisor loads.
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let set = |selector| {
        let args = [SEGBASE_GS_USER_SEL, selector, 0, 0, 0];
        // SAFETY: no user code runs with it.
        unsafe { raw::call(Hypercall::SetSegmentBase as u64, args) }
    };
    println!("CPU user gs in {place}: {}", set(DATA_SELECTOR));
    // Xen doesn't load it again after a sleep in which no other vCPU ran; Pinfold does.
    check.equal("no user gs", set(0), 0);
}
