//! Tables of the wrong level, slots and bits that a guest must not set, and wrong pin counts.

use super::check::{Check, Expect};
use pinfold_abi::errno::Errno::{EBUSY, EINVAL};
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::fixtures::{RO, RW, TableFixture, user_root};
use pinfold_guest::raw;

const INVALID: Expect = Expect::Refused(EINVAL);
const BUSY: Expect = Expect::Refused(EBUSY);

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: what this file asks for concerns fixture frames.
    unsafe { raw::mmu_update(ptr, val) }
}

pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    levels(fixture, check);
    reserved(fixture, check);
    pins(fixture, check);
    roots(fixture, check);
}

/// Uses each level where another one is expected.
fn levels(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let tables: alloc::vec::Vec<_> = (1..=4u8)
        .map(|level| {
            let table = fixture.frame();
            fixture.seal(table);
            check.call("pin of an empty table", fixture.pin(table, level), Expect::Done);
            table
        })
        .collect();
    for (have, &table) in (1u8..).zip(&tables) {
        for want in 1..=4 {
            check.call("pin again, as any level", fixture.pin(table, want), INVALID);
        }
        for (parent_level, &parent) in (1u8..).zip(&tables).skip(1) {
            let link = update(fixture.entry_addr(parent, 3), fixture.entry(table, RW));
            let fits = parent_level == have + 1;
            check.call("link", link, if fits { Expect::Done } else { INVALID });
            update(fixture.entry_addr(parent, 3), 0);
        }
        let data = fixture.frame();
        let above = fixture.entry_addr(tables[3.min(have as usize)], 4);
        if have < 4 {
            check.call("link of a data page", update(above, fixture.entry(data, RW)), INVALID);
            check.call("it stays writable", fixture.unseal(data), Expect::Done);
        }
    }
    fixture.restore(saved);
}

/// Tries the hypervisor's slots, and bits that no table may have.
fn reserved(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    fixture.pin(live[0], 4);
    for slot in HYPERVISOR_SLOTS {
        for val in [0, fixture.entry(live[1], RW), fixture.entry(live[1], RO), u64::MAX] {
            let result = update(fixture.entry_addr(live[0], slot), val);
            check.call("update of the hypervisor's slot", result, INVALID);
        }
    }
    // PWT, PCD, PS and G are not allowed in L2 to L4, and address bits beyond physical memory at no
    // level.
    for (step, &table) in live.iter().take(3).enumerate() {
        let good = fixture.entry(live[step + 1], RW);
        for bit in [3, 4, 7, 8, 44, 48, 51] {
            let result = update(fixture.entry_addr(table, 6), good | 1 << bit);
            check.call("update with a reserved bit", result, INVALID);
            let fresh = fixture.frame();
            fixture.set(fresh, 0, good | 1 << bit);
            fixture.seal(fresh);
            check.call("pin with a reserved bit", fixture.pin(fresh, 4 - step as u8), INVALID);
        }
    }
    fixture.restore(saved);
}

/// Unpins twice, too early, or while in use.
fn pins(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    check.call("unpin of a table that was never pinned", fixture.unpin(live[0]), INVALID);
    check.call("unpin of data", fixture.unpin(leaf), INVALID);
    fixture.pin(live[0], 4);
    check.call("unpin of a table that is in use, not pinned", fixture.unpin(live[3]), INVALID);
    check.call("pin of a table that is in use", fixture.pin(live[3], 1), Expect::Done);
    check.call("its second pin", fixture.pin(live[3], 1), INVALID);
    check.call("unpin of it, in use", fixture.unpin(live[3]), Expect::Done);
    check.call("it is still a table", fixture.unseal(live[3]), BUSY);
    check.call("its second unpin", fixture.unpin(live[3]), INVALID);
    check.call("unpin of the root", fixture.unpin(live[0]), Expect::Done);
    for &table in &live {
        check.call("all are data again", fixture.unseal(table), Expect::Done);
    }
    check.call("second unpin of the root", fixture.unpin(live[0]), INVALID);
    fixture.restore(saved);
}

/// Loads roots that are none, and unpins roots that are loaded.
fn roots(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let load = |mfn: u64| {
        // SAFETY: a frame that is no root is refused.
        unsafe { raw::mmuext(MmuextCmd::NewBaseptr as u32, mfn, 0) }
    };
    let load_for_user = |mfn: u64| {
        // SAFETY: likewise; the one that is a root has the kernel's part.
        unsafe { user_root::load(mfn) }
    };
    let table = fixture.frame();
    fixture.seal(table);
    for level in 1..=3 {
        fixture.pin(table, level);
        check.call("a lower table as root", load(fixture.mfn(table)), INVALID);
        check.call("a lower table as user root", load_for_user(fixture.mfn(table)), INVALID);
        fixture.unpin(table);
    }
    fixture.unseal(table);
    check.call("data as root", load(fixture.mfn(table)), INVALID);
    for (slot, entry) in user_root::kernel_part(fixture.frames()) {
        fixture.set(table, slot, entry);
    }
    fixture.seal(table);
    fixture.pin(table, 4);
    check.call("a user root", load_for_user(fixture.mfn(table)), Expect::Done);
    check.call("unpin of it, loaded", fixture.unpin(table), Expect::Done);
    check.call("it is still a root", fixture.unseal(table), BUSY);
    check.call("no user root", load_for_user(0), Expect::Done);
    check.call("it is data again", fixture.unseal(table), Expect::Done);
    fixture.restore(saved);
}
