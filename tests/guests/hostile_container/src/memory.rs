//! The hypervisor's addresses, and page tables of the guest.

use crate::attempt::{PF, raises};
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START, M2P_START};
use pinfold_abi::mmu::UVMF_INVLPG;
use pinfold_abi::version::EXTRAVERSION;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::catch;
use pinfold_guest::fixtures::{Check, RW, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw;

/// Error-code bits of page faults: mapped, a store.
const PROTECTION: u64 = 1;
const STORE: u64 = 2;

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let (mut readable, mut absent) = (0u32, 0u32);
    // One address of each 4 GiB, and those near the ends.
    let steps = (HYPERVISOR_START..HYPERVISOR_END).step_by(1 << 32).flat_map(|at| [at, at + 0xff8]);
    for at in steps.chain([HYPERVISOR_END - 8]) {
        // SAFETY: reading is harmless.
        match unsafe { catch::read(at) } {
            Ok(_) => readable += 1,
            Err(trap) => {
                absent += 1;
                check.equal("a read", (trap.vector, trap.error & PROTECTION), (PF, 0));
            }
        }
        // SAFETY: it faults.
        let store = unsafe { catch::write(at, 0) };
        check.equal("a store faults", store.err().map(|trap| trap.vector), Some(PF));
    }
    println!("CONTAINER hypervisor's addresses: {readable} readable, {absent} absent");
    for page in 0..64u64 {
        let at = M2P_START + page * 0x1000;
        // SAFETY: reading is harmless.
        if unsafe { catch::read(at) }.is_ok() {
            // SAFETY: it faults.
            let store = unsafe { catch::write(at, 0) };
            let error = store.err().map(|trap| (trap.vector, trap.error & 3));
            check.equal("a store to the M2P", error, Some((PF, PROTECTION | STORE)));
        }
    }
    for at in [HYPERVISOR_START + (1 << 40), HYPERVISOR_END - 0x1000] {
        raises(check, "a call into the hypervisor", PF, || {
            // SAFETY: it faults.
            unsafe { asm!("call {}", in(reg) at) }
        });
    }
    check.equal(
        "update_va_mapping of the M2P",
        // SAFETY: refused.
        unsafe { raw::update_va_mapping(Vaddr(M2P_START), 0, UVMF_INVLPG) },
        pinfold_abi::errno::Errno::EINVAL.as_result(),
    );
    tables(fixture, check);
    own_flush(fixture, check);
}

/// After a flush by the guest itself, which exits to nobody, the hypervisor uses the new mapping too.
fn own_flush(fixture: &mut TableFixture, check: &mut Check) {
    let (old, new) = (fixture.frame(), fixture.frame());
    let at = fixture.va(old);
    let ask = || {
        // SAFETY: it writes 16 bytes to a fixture frame.
        unsafe { raw::call(Hypercall::XenVersion as u64, [EXTRAVERSION, at.0, 0, 0, 0]) }
    };
    check.equal("a call writes", ask(), 0);
    let text = fixture.get(old, 0);
    fixture.set(old, 0, 0);
    // SAFETY: a fixture frame.
    let mapped = unsafe { raw::update_va_mapping(at, fixture.entry(new, RW), 0) };
    check.equal("map another frame, without a flush", mapped, 0);
    // SAFETY: flushing a translation is harmless.
    unsafe { asm!("invlpg [{}]", in(reg) at.0) };
    check.equal("a call writes there", ask(), 0);
    check.equal("to the new frame", fixture.get(new, 0), text);
    check.equal("map the old one again", fixture.map(old, RW), 0);
    check.equal("it was left alone", fixture.get(old, 0), 0);
}

/// Stores to the guest's own page tables fault, whatever ring 0 does.
fn tables(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let table = fixture.frame();
    fixture.seal(table);
    check.equal("pin", fixture.pin(table, 1), 0);
    let evil = fixture.entry(table, RW);
    let at = fixture.va(table).0;
    // SAFETY: it faults.
    let store = unsafe { catch::write(at, evil) };
    check.equal("a store to a page table", store.err().map(|trap| trap.vector), Some(PF));
    // SAFETY: refused.
    let refused = unsafe { raw::mmu_update(fixture.entry_addr(table, 0), evil) };
    check.holds("a writable mapping of it", refused != 0);
    check.equal("it is empty", fixture.get(table, 0), 0);
    fixture.restore(saved);
}
