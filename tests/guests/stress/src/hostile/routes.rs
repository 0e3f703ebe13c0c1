//! Writable mappings of a live table, by every route.

use super::check::{Check, Expect};
use pinfold_abi::errno::Errno::{EBUSY, EFAULT, EINVAL};
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::memory::{self, Reservation};
use pinfold_abi::mmu::{
    MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD, MmuextCmd, UVMF_INVLPG,
    VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES,
};
use pinfold_abi::{domid, version};
use pinfold_guest::addr::{Mfn, PAGE_SIZE, Pfn};
use pinfold_guest::entry::catch;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

const BUSY: Expect = Expect::Refused(EBUSY);
const INVALID: Expect = Expect::Refused(EINVAL);

fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: what this file asks for affects fixture frames only, and is refused.
    unsafe { raw::call(op as u64, args) }
}

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: as above.
    unsafe { raw::mmu_update(ptr, val) }
}

pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    check.call("pin of a plain tree", fixture.pin(live[0], 4), Expect::Done);
    // Each of the four tables of the tree.
    for (&table, level) in live.iter().zip(["L4", "L3", "L2", "L1"]) {
        mappings(fixture, check, table, level);
        tables(fixture, check, table, level);
        calls(fixture, check, table, level);
    }
    stores(fixture, check, live[3]);
    fixture.restore(saved);
}

/// By entries of a live L1.
fn mappings(fixture: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let inner = fixture.save();
    let rw = fixture.entry(table, RW);
    check.call(level, fixture.unseal(table), BUSY);
    let spare = fixture.frame();
    // SAFETY: the fixture frame's entry in the direct map.
    let elsewhere =
        |val: u64| unsafe { raw::update_va_mapping(fixture.va(spare), val, UVMF_INVLPG) };
    check.call(level, elsewhere(rw), BUSY);
    check.call("read-only is allowed", elsewhere(fixture.entry(table, RO)), Expect::Done);
    check.call("then writable is not", elsewhere(rw), BUSY);
    check.call("user and writable", elsewhere(rw | 4), BUSY);
    let mut list = [MulticallEntry {
        op: Hypercall::UpdateVaMapping as u64,
        result: 0,
        args: [fixture.va(spare).0, rw, UVMF_INVLPG, 0, 0, 0],
    }];
    // SAFETY: as above.
    check.call("multicall", unsafe { raw::multicall(&mut list) }, Expect::Done);
    check.call("in a multicall", list[0].result, BUSY);
    let other = call(
        Hypercall::UpdateVaMappingOtherdomain,
        [fixture.va(spare).0, rw, UVMF_INVLPG, domid::SELF.into(), 0],
    );
    check.call("update_va_mapping_otherdomain", other, BUSY);

    let (data, own) = (fixture.frame(), fixture.frame());
    fixture.set(own, 3, fixture.entry(data, RW));
    fixture.set(own, 4, fixture.entry(table, RO));
    fixture.seal(own);
    check.call("pin of an L1 that maps it read-only", fixture.pin(own, 1), Expect::Done);
    for kind in [0, MMU_PT_UPDATE_PRESERVE_AD, MMU_PT_UPDATE_NO_TRANSLATE] {
        check.call("update of a free entry", update(fixture.entry_addr(own, 5) | kind, rw), BUSY);
        check.call("of a writable one", update(fixture.entry_addr(own, 3) | kind, rw), BUSY);
        // The same frame with one more bit: fast paths have got this case wrong (XSA-182).
        check.call("of a read-only one", update(fixture.entry_addr(own, 4) | kind, rw), BUSY);
    }
    check.holds("refused updates change nothing", fixture.get(own, 5) == 0);
    fixture.restore(inner);
}

/// By tables that contain such an entry when they become live.
fn tables(fixture: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let inner = fixture.save();
    let rw = fixture.entry(table, RW);
    let bad = fixture.frame();
    fixture.set(bad, 511, rw);
    fixture.seal(bad);
    check.call(level, fixture.pin(bad, 1), BUSY);
    let leaf = fixture.frame();
    let above = fixture.chain(4, leaf);
    let l1 = above[3];
    fixture.unseal(l1);
    fixture.set(l1, 1, rw);
    fixture.seal(l1);
    for (&root, depth) in above.iter().zip([4u8, 3, 2, 1]) {
        check.call("pin of a tree with it inside", fixture.pin(root, depth), BUSY);
    }
    // Linked into a live L2.
    let live = fixture.frame();
    fixture.seal(live);
    fixture.pin(live, 2);
    let link = update(fixture.entry_addr(live, 0), fixture.entry(bad, RW));
    check.call("link of an L1 with it inside", link, BUSY);
    // A tree that maps one of its own tables, which isn't a table yet.
    fixture.unseal(l1);
    fixture.set(l1, 1, fixture.entry(above[2], RW));
    fixture.seal(l1);
    check.call("pin of a tree that maps its own L2", fixture.pin(above[0], 4), BUSY);
    check.call("no type of it is left", fixture.unseal(above[1]), Expect::Done);
    fixture.restore(inner);
}

/// By calls that write to frames or to addresses.
fn calls(fixture: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let before = [fixture.get(table, 0), fixture.get(table, 100)];
    let ext = |cmd: MmuextCmd, arg1: u64, arg2: u64| {
        // SAFETY: fixture frames.
        unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
    };
    check.call(level, ext(MmuextCmd::ClearPage, fixture.mfn(table), 0), INVALID);
    let inner = fixture.save();
    let data = fixture.frame();
    check.call(
        "copy_page",
        ext(MmuextCmd::CopyPage, fixture.mfn(table), fixture.mfn(data)),
        INVALID,
    );
    let descriptor =
        call(Hypercall::UpdateDescriptor, [fixture.entry_addr(table, 100), 0, 0, 0, 0]);
    check.call("update_descriptor", descriptor, Expect::InRing3(EINVAL));
    let frames = [fixture.mfn(table)];
    let gdt = call(Hypercall::SetGdt, [frames.as_ptr() as u64, 16, 0, 0, 0]);
    check.call("set_gdt", gdt, Expect::InRing3(EINVAL));
    // The hypervisor writes to guest addresses with the rights that the guest's entries give.
    let home = fixture.va(table).0;
    let text = call(Hypercall::XenVersion, [version::EXTRAVERSION, home + 800, 0, 0, 0]);
    check.call("a string written to it", text, Expect::Refused(EFAULT));
    let mut reservation = Reservation {
        extent_start: home + 800,
        nr_extents: 1,
        domid: domid::SELF,
        ..Reservation::default()
    };
    let args = [memory::INCREASE_RESERVATION, &raw mut reservation as u64, 0, 0, 0];
    let reserved = call(Hypercall::MemoryOp, args);
    check.holds("a frame number written to it", reserved <= 0);
    // SAFETY: an empty list; the count must not be written.
    let counted = unsafe {
        let list = [0u64; 2];
        raw::call(
            Hypercall::MmuUpdate as u64,
            [list.as_ptr() as u64, 1, home + 800, domid::SELF.into(), 0],
        )
    };
    check.holds("a count written to it", counted <= 0);
    check.holds("it is as before", before == [fixture.get(table, 0), fixture.get(table, 100)]);
    fixture.restore(inner);
}

/// By plain stores, which the hypervisor emulates where they are allowed.
fn stores(fixture: &mut TableFixture, check: &mut Check, l1: Pfn) {
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    check.call("vm_assist", call(Hypercall::VmAssist, assist), Expect::Done);
    let inner = fixture.save();
    let data = fixture.frame();
    let at = fixture.va(l1).0 + 9 * 8;
    // SAFETY: a fixture table, which is not in use.
    let store = |word: u64| unsafe { catch::write(at, word) };
    check.holds("an allowed store is carried out", store(fixture.entry(data, RW)).is_ok());
    check.holds(
        "it is in the table",
        fixture.get(l1, 9) & !(PAGE_SIZE - 1) & !(1 << 52) == Mfn(fixture.mfn(data)).address(),
    );
    check.trap("a store that maps it writable", store(fixture.entry(l1, RW)), 14);
    check.holds(
        "the old entry stays",
        fixture.get(l1, 9) & !(PAGE_SIZE - 1) & !(1 << 52) == Mfn(fixture.mfn(data)).address(),
    );
    check.holds("a store that maps it read-only", store(fixture.entry(l1, RO)).is_ok());
    // SAFETY: as above; the store would cross two entries.
    check.trap("a store across entries", unsafe { catch::write(at + 4, 0) }, 14);
    check.holds("a store that clears", store(0).is_ok());
    fixture.restore(inner);
}
