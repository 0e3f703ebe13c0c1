//! The local table on the way back to the guest: its pages are taken when the processor first wants
//! them, also if that is `iretq` in the hypervisor, or the load of a selector that was in use while
//! others ran.

use crate::descriptors::{CODE, DATA, set_ldt};
use crate::iret::{go, good};
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::{IretFrame, SEGBASE_GS_USER_SEL};
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::entry::{time, trap};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw;

/// Selectors of the table's first two entries, as the guest kernel has them.
const CODE_SELECTOR: u64 = 0x4;
const DATA_SELECTOR: u64 = 0xf;
/// Where nothing is mapped.
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
    check.equal("the writable page is writable", fixture.unseal(data), 0);
}

/// Returns to code and stacks of the table, when no page of it has been wanted yet, and once more.
fn returns(check: &mut Check, place: &str, base: u64, entries: u64) {
    let frames = [
        ("cs", IretFrame { cs: CODE_SELECTOR, ..good() }),
        ("ss", IretFrame { ss: DATA_SELECTOR, ..good() }),
        ("cs and ss", IretFrame { cs: CODE_SELECTOR, ss: DATA_SELECTOR, ..good() }),
    ];
    for (what, frame) in frames {
        // Forgets what pages were there.
        check.equal("set_ldt", set_ldt(base, entries), 0);
        for time in ["first", "second"] {
            // A fault of one's own leaves its address behind; the next one must have another.
            touch_nothing(check);
            match go(frame) {
                Ok(()) => check.holds("it ends with a trap", false),
                Err(Trap { vector, error, cs, cr2, .. }) => {
                    // Only a page fault has an address; where the table is differs by hypervisor.
                    let at = match (vector, cr2.wrapping_sub(base)) {
                        (14, offset @ 0..4096) => offset,
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

/// A fault with an address far from everything else here.
fn touch_nothing(check: &mut Check) {
    const ELSEWHERE: u64 = 0x5555_5000;
    // SAFETY: nothing is mapped there, and the read is caught.
    let read = unsafe { catch(|| asm!("mov al, [{}]", in(reg) ELSEWHERE, out("al") _)) };
    check.equal("a fault elsewhere", read.err().map(|trap| trap.cr2), Some(ELSEWHERE));
}

/// Selectors of the table that are loaded when the pages are forgotten, and the vCPU sleeps: what is
/// in them afterwards.
fn selectors(check: &mut Check, place: &str, base: u64, entries: u64) {
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let before = trap::failsafes();
    // SAFETY: bases and limits of DS and ES are not used, nor is FS.
    let loaded = unsafe {
        catch(|| asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) DATA_SELECTOR))
    };
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let _ = time::sleep(2_000_000);
    let (ds, es, fs): (u64, u64, u64);
    // SAFETY: reads, and null selectors.
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
    // The user's gs, which the hypervisor loads.
    check.equal("set_ldt", set_ldt(base, entries), 0);
    let set = |selector| {
        let args = [SEGBASE_GS_USER_SEL, selector, 0, 0, 0];
        // SAFETY: no user code runs with it.
        unsafe { raw::call(Hypercall::SetSegmentBase as u64, args) }
    };
    println!("CPU user gs in {place}: {}", set(DATA_SELECTOR));
    // Xen doesn't load it anew after a sleep in which nobody else ran; Pinfold does.
    check.equal("no user gs", set(0), 0);
}
