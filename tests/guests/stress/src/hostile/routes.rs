//! A writable mapping of a live table, by each route there is.

use super::check::{Check, Expect};
use pinfold_abi::errno::Errno::{EBUSY, EFAULT, EINVAL};
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::memory::{self, Reservation};
use pinfold_abi::mmu::{
    MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD, MmuextCmd, UVMF_INVLPG,
    VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES,
};
use pinfold_abi::{domid, version};
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::catch;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

const BUSY: Expect = Expect::Refused(EBUSY);
const INVALID: Expect = Expect::Refused(EINVAL);

fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: what this file asks for concerns bench frames, and is refused.
    unsafe { raw::call(op as u64, args) }
}

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: as above.
    unsafe { raw::mmu_update(ptr, val) }
}

pub(super) fn run(lab: &mut TableFixture, check: &mut Check) {
    let saved = lab.save();
    let leaf = lab.frame();
    let live = lab.chain(4, leaf);
    check.call("pin of a plain tree", lab.pin(live[0], 4), Expect::Done);
    // Each of the four tables, wherever it stands.
    for (&table, level) in live.iter().zip(["L4", "L3", "L2", "L1"]) {
        mappings(lab, check, table, level);
        tables(lab, check, table, level);
        calls(lab, check, table, level);
    }
    stores(lab, check, live[3]);
    lab.restore(saved);
}

/// By an entry of a live L1.
fn mappings(lab: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let inner = lab.save();
    let rw = lab.entry(table, RW);
    check.call(level, lab.unseal(table), BUSY);
    let spare = lab.frame();
    // SAFETY: a bench frame's place.
    let elsewhere = |val: u64| unsafe { raw::update_va_mapping(lab.va(spare), val, UVMF_INVLPG) };
    check.call(level, elsewhere(rw), BUSY);
    check.call("read-only is allowed", elsewhere(lab.entry(table, RO)), Expect::Done);
    check.call("then writable is not", elsewhere(rw), BUSY);
    check.call("user and writable", elsewhere(rw | 4), BUSY);
    let mut list = [MulticallEntry {
        op: Hypercall::UpdateVaMapping as u64,
        result: 0,
        args: [lab.va(spare).0, rw, UVMF_INVLPG, 0, 0, 0],
    }];
    // SAFETY: as above.
    check.call("multicall", unsafe { raw::multicall(&mut list) }, Expect::Done);
    check.call("in a multicall", list[0].result, BUSY);
    let other = call(
        Hypercall::UpdateVaMappingOtherdomain,
        [lab.va(spare).0, rw, UVMF_INVLPG, domid::SELF.into(), 0],
    );
    check.call("update_va_mapping_otherdomain", other, BUSY);

    let (data, own) = (lab.frame(), lab.frame());
    lab.set(own, 3, lab.entry(data, RW));
    lab.set(own, 4, lab.entry(table, RO));
    lab.seal(own);
    check.call("pin of an L1 that maps it read-only", lab.pin(own, 1), Expect::Done);
    for kind in [0, MMU_PT_UPDATE_PRESERVE_AD, MMU_PT_UPDATE_NO_TRANSLATE] {
        check.call("update of a free entry", update(lab.entry_addr(own, 5) | kind, rw), BUSY);
        check.call("of a writable one", update(lab.entry_addr(own, 3) | kind, rw), BUSY);
        // Same frame, one bit more: the case that fast paths got wrong once.
        check.call("of a read-only one", update(lab.entry_addr(own, 4) | kind, rw), BUSY);
    }
    check.holds("refused updates change nothing", lab.get(own, 5) == 0);
    lab.restore(inner);
}

/// By tables that are made live with the mapping in them.
fn tables(lab: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let inner = lab.save();
    let rw = lab.entry(table, RW);
    let bad = lab.frame();
    lab.set(bad, 511, rw);
    lab.seal(bad);
    check.call(level, lab.pin(bad, 1), BUSY);
    let leaf = lab.frame();
    let above = lab.chain(4, leaf);
    let l1 = above[3];
    lab.unseal(l1);
    lab.set(l1, 1, rw);
    lab.seal(l1);
    for (&root, depth) in above.iter().zip([4u8, 3, 2, 1]) {
        check.call("pin of a tree with it inside", lab.pin(root, depth), BUSY);
    }
    // Linked into a live L2.
    let live = lab.frame();
    lab.seal(live);
    lab.pin(live, 2);
    let link = update(lab.entry_addr(live, 0), lab.entry(bad, RW));
    check.call("link of an L1 with it inside", link, BUSY);
    // A tree that maps one of its own tables, which are no tables yet.
    lab.unseal(l1);
    lab.set(l1, 1, lab.entry(above[2], RW));
    lab.seal(l1);
    check.call("pin of a tree that maps its own L2", lab.pin(above[0], 4), BUSY);
    check.call("and nothing is left of it", lab.unseal(above[1]), Expect::Done);
    lab.restore(inner);
}

/// By calls that write to frames or to addresses.
fn calls(lab: &mut TableFixture, check: &mut Check, table: Pfn, level: &str) {
    let before = [lab.get(table, 0), lab.get(table, 100)];
    let ext = |cmd: MmuextCmd, arg1: u64, arg2: u64| {
        // SAFETY: bench frames.
        unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
    };
    check.call(level, ext(MmuextCmd::ClearPage, lab.mfn(table), 0), INVALID);
    let inner = lab.save();
    let data = lab.frame();
    check.call("copy_page", ext(MmuextCmd::CopyPage, lab.mfn(table), lab.mfn(data)), INVALID);
    let descriptor = call(Hypercall::UpdateDescriptor, [lab.entry_addr(table, 100), 0, 0, 0, 0]);
    check.call("update_descriptor", descriptor, INVALID);
    let frames = [lab.mfn(table)];
    let gdt = call(Hypercall::SetGdt, [frames.as_ptr() as u64, 16, 0, 0, 0]);
    check.call("set_gdt", gdt, INVALID);
    // The hypervisor's own writes to guest addresses obey the guest's entries.
    let home = lab.va(table).0;
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
    // SAFETY: an empty list, with a place for the count that must not be written.
    let counted = unsafe {
        let list = [0u64; 2];
        raw::call(
            Hypercall::MmuUpdate as u64,
            [list.as_ptr() as u64, 1, home + 800, domid::SELF.into(), 0],
        )
    };
    check.holds("a count written to it", counted <= 0);
    check.holds("it is as before", before == [lab.get(table, 0), lab.get(table, 100)]);
    lab.restore(inner);
}

/// By plain stores, which are emulated where they are right.
fn stores(lab: &mut TableFixture, check: &mut Check, l1: Pfn) {
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    check.call("vm_assist", call(Hypercall::VmAssist, assist), Expect::Done);
    let inner = lab.save();
    let data = lab.frame();
    let at = lab.va(l1).0 + 9 * 8;
    // SAFETY: a bench table, in use by nobody.
    let store = |word: u64| unsafe { catch::write(at, word) };
    check.holds("a right store is carried out", store(lab.entry(data, RW)).is_ok());
    check.holds(
        "it is in the table",
        lab.get(l1, 9) & !0xfff_u64 & !(1 << 52) == lab.mfn(data) << 12,
    );
    check.trap("a store that maps it writable", store(lab.entry(l1, RW)), 14);
    check.holds(
        "the old entry stands",
        lab.get(l1, 9) & !0xfff_u64 & !(1 << 52) == lab.mfn(data) << 12,
    );
    check.holds("a store that maps it read-only", store(lab.entry(l1, RO)).is_ok());
    // SAFETY: as above, across two entries.
    check.trap("a store across entries", unsafe { catch::write(at + 4, 0) }, 14);
    check.holds("a store that clears", store(0).is_ok());
    lab.restore(inner);
}
