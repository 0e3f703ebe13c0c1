//! Tables of the wrong level, slots and bits that are not the guest's, pins counted wrongly.

use super::check::{Check, Expect};
use pinfold_abi::errno::Errno::{EBUSY, EINVAL};
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

const INVALID: Expect = Expect::Refused(EINVAL);
const BUSY: Expect = Expect::Refused(EBUSY);

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: what this file asks for concerns bench frames.
    unsafe { raw::mmu_update(ptr, val) }
}

pub(super) fn run(lab: &mut TableFixture, check: &mut Check) {
    levels(lab, check);
    reserved(lab, check);
    pins(lab, check);
    roots(lab, check);
}

/// Each level where another is wanted.
fn levels(lab: &mut TableFixture, check: &mut Check) {
    let saved = lab.save();
    let tables: alloc::vec::Vec<_> = (1..=4u8)
        .map(|level| {
            let table = lab.frame();
            lab.seal(table);
            check.call("pin of an empty table", lab.pin(table, level), Expect::Done);
            table
        })
        .collect();
    for (have, &table) in (1u8..).zip(&tables) {
        for want in 1..=4 {
            check.call("pin again, as any level", lab.pin(table, want), INVALID);
        }
        for (parent_level, &parent) in (1u8..).zip(&tables).skip(1) {
            let link = update(lab.entry_addr(parent, 3), lab.entry(table, RW));
            let fits = parent_level == have + 1;
            check.call("link", link, if fits { Expect::Done } else { INVALID });
            update(lab.entry_addr(parent, 3), 0);
        }
        let data = lab.frame();
        let above = lab.entry_addr(tables[3.min(have as usize)], 4);
        if have < 4 {
            check.call("link of a data page", update(above, lab.entry(data, RW)), INVALID);
            check.call("it stays writable", lab.unseal(data), Expect::Done);
        }
    }
    lab.restore(saved);
}

/// The hypervisor's slots, and bits that no table may have.
fn reserved(lab: &mut TableFixture, check: &mut Check) {
    let saved = lab.save();
    let leaf = lab.frame();
    let live = lab.chain(4, leaf);
    lab.pin(live[0], 4);
    for slot in HYPERVISOR_SLOTS {
        for val in [0, lab.entry(live[1], RW), lab.entry(live[1], RO), u64::MAX] {
            let result = update(lab.entry_addr(live[0], slot), val);
            check.call("update of the hypervisor's slot", result, INVALID);
        }
    }
    // Write-through, cache disable, size and global have no place in L2 to L4; address bits that
    // no memory has have none anywhere.
    for (step, &table) in live.iter().take(3).enumerate() {
        let good = lab.entry(live[step + 1], RW);
        for bit in [3, 4, 7, 8, 44, 48, 51] {
            let result = update(lab.entry_addr(table, 6), good | 1 << bit);
            check.call("update with a reserved bit", result, INVALID);
            let fresh = lab.frame();
            lab.set(fresh, 0, good | 1 << bit);
            lab.seal(fresh);
            check.call("pin with a reserved bit", lab.pin(fresh, 4 - step as u8), INVALID);
        }
    }
    lab.restore(saved);
}

/// Pins dropped twice, too early, or in use.
fn pins(lab: &mut TableFixture, check: &mut Check) {
    let saved = lab.save();
    let leaf = lab.frame();
    let live = lab.chain(4, leaf);
    check.call("unpin of what never was pinned", lab.unpin(live[0]), INVALID);
    check.call("unpin of data", lab.unpin(leaf), INVALID);
    lab.pin(live[0], 4);
    check.call("unpin of a table that is in use, not pinned", lab.unpin(live[3]), INVALID);
    check.call("pin of a table that is in use", lab.pin(live[3], 1), Expect::Done);
    check.call("its second pin", lab.pin(live[3], 1), INVALID);
    check.call("unpin of it, in use", lab.unpin(live[3]), Expect::Done);
    check.call("it is still a table", lab.unseal(live[3]), BUSY);
    check.call("its second unpin", lab.unpin(live[3]), INVALID);
    check.call("unpin of the root", lab.unpin(live[0]), Expect::Done);
    for &table in &live {
        check.call("all are data again", lab.unseal(table), Expect::Done);
    }
    check.call("second unpin of the root", lab.unpin(live[0]), INVALID);
    lab.restore(saved);
}

/// Roots that are none, or are taken away while they are loaded.
fn roots(lab: &mut TableFixture, check: &mut Check) {
    let saved = lab.save();
    let load = |cmd: MmuextCmd, mfn: u64| {
        // SAFETY: a root that is no root is refused; the user root is nobody's.
        unsafe { raw::mmuext(cmd as u32, mfn, 0) }
    };
    let table = lab.frame();
    lab.seal(table);
    for level in 1..=3 {
        lab.pin(table, level);
        check.call("a lower table as root", load(MmuextCmd::NewBaseptr, lab.mfn(table)), INVALID);
        let user = load(MmuextCmd::NewUserBaseptr, lab.mfn(table));
        check.call("a lower table as user root", user, INVALID);
        lab.unpin(table);
    }
    lab.unseal(table);
    check.call("data as root", load(MmuextCmd::NewBaseptr, lab.mfn(table)), INVALID);
    lab.seal(table);
    lab.pin(table, 4);
    check.call("a user root", load(MmuextCmd::NewUserBaseptr, lab.mfn(table)), Expect::Done);
    check.call("unpin of it, loaded", lab.unpin(table), Expect::Done);
    check.call("it is still a root", lab.unseal(table), BUSY);
    check.call("no user root", load(MmuextCmd::NewUserBaseptr, 0), Expect::Done);
    check.call("it is data again", lab.unseal(table), Expect::Done);
    lab.restore(saved);
}
