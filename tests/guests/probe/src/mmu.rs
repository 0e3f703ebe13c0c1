//! The error numbers of the MMU calls.

use crate::report::Report;
use pinfold_abi::domid;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::HYPERVISOR_START;
use pinfold_abi::memory::{MACHPHYS_MFN_LIST, MAXIMUM_RAM_PAGE, MachphysMfnList};
use pinfold_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate,
    MmuextCmd, MmuextOp,
};
use pinfold_guest::addr::{Mfn, Pfn, Vaddr};
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

/// Returns a frame of the hypervisor: the first of the machine-to-physical table.
fn hypervisor_frame() -> u64 {
    let mut mfn = 0u64;
    let mut list = MachphysMfnList {
        max_extents: 1,
        pad: 0,
        extent_start: core::ptr::from_mut(&mut mfn) as u64,
        nr_extents: 0,
        pad2: 0,
    };
    let args = [MACHPHYS_MFN_LIST, core::ptr::from_mut(&mut list) as u64, 0, 0, 0];
    // SAFETY: the call writes one word to `mfn`.
    let result = unsafe { raw::call(Hypercall::MemoryOp as u64, args) };
    // SAFETY: the hypervisor wrote it, which the compiler doesn't know.
    if result == 0 { unsafe { (&raw const mfn).read_volatile() } } else { 0 }
}

/// An invalid entry.
const GARBAGE: u64 = 0xdead_beef_0000_0fff;

/// Returns a frame number beyond the end of memory.
fn beyond_memory() -> u64 {
    // SAFETY: the call has no argument.
    let highest = unsafe { raw::call(Hypercall::MemoryOp as u64, [MAXIMUM_RAM_PAGE, 0, 0, 0, 0]) };
    highest as u64 + 0x1000
}

fn ext(cmd: MmuextCmd, arg1: u64, arg2: u64) -> i64 {
    // SAFETY: the calls of this file affect fixture frames only, or are refused.
    unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
}

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: as above.
    unsafe { raw::mmu_update(ptr, val) }
}

/// Returns an entry that maps an empty table, which is pinned at this level.
fn pinned_entry(fixture: &mut TableFixture, level: u8, flags: u64) -> u64 {
    let table = fixture.frame();
    fixture.seal(table);
    fixture.pin(table, level);
    fixture.entry(table, flags)
}

/// Reports pins and unpins.
pub(crate) fn pins(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    for (level, writable, empty, again, unpin, twice) in [
        (
            1u8,
            "pin.l1.writable_alias",
            "pin.l1.empty",
            "pin.l1.again",
            "unpin.l1",
            "unpin.l1.again",
        ),
        (2, "pin.l2.writable_alias", "pin.l2.empty", "pin.l2.again", "unpin.l2", "unpin.l2.again"),
        (3, "pin.l3.writable_alias", "pin.l3.empty", "pin.l3.again", "unpin.l3", "unpin.l3.again"),
        (4, "pin.l4.writable_alias", "pin.l4.empty", "pin.l4.again", "unpin.l4", "unpin.l4.again"),
    ] {
        let table = fixture.frame();
        report.call(writable, fixture.pin(table, level));
        fixture.seal(table);
        report.call(empty, fixture.pin(table, level));
        report.call(again, fixture.pin(table, level));
        report.call(unpin, fixture.unpin(table));
        report.call(twice, fixture.unpin(table));
    }
    let table = fixture.frame();
    fixture.seal(table);
    fixture.pin(table, 1);
    report.call("pin.l2.of_pinned_l1", fixture.pin(table, 2));
    report.call("pinned.make_writable", fixture.unseal(table));
    fixture.unpin(table);
    report.call("unpinned.make_writable", fixture.unseal(table));
    let plain = fixture.frame();
    report.call("unpin.never_pinned", fixture.unpin(plain));

    let cmd = MmuextCmd::PinL1Table;
    report.call("pin.hypervisor_frame", ext(cmd, hypervisor_frame(), 0));
    report.call("pin.beyond_memory", ext(cmd, beyond_memory(), 0));
    report.call("pin.frame_all_ones", ext(cmd, u64::MAX, 0));
    report.call("unpin.hypervisor_frame", ext(MmuextCmd::UnpinTable, hypervisor_frame(), 0));
    report.call("unpin.frame_all_ones", ext(MmuextCmd::UnpinTable, u64::MAX, 0));

    // Entries with which a table can't be pinned.
    let mut with = |key: &str, level: u8, entry: &dyn Fn(&mut TableFixture, Pfn) -> u64| {
        let inner = fixture.save();
        let table = fixture.frame();
        let word = entry(fixture, table);
        fixture.set(table, 7, word);
        fixture.seal(table);
        report.call(key, fixture.pin(table, level));
        fixture.restore(inner);
    };
    with("pin.l1.own_writable", 1, &|fixture, _| {
        let f = fixture.frame();
        fixture.entry(f, RW)
    });
    with("pin.l1.hypervisor_frame_ro", 1, &|_, _| Mfn(hypervisor_frame()).address() | RO);
    with("pin.l1.hypervisor_frame_rw", 1, &|_, _| Mfn(hypervisor_frame()).address() | RW);
    with("pin.l1.self_ro", 1, &|fixture, table| fixture.entry(table, RO));
    with("pin.l1.self_rw", 1, &|fixture, table| fixture.entry(table, RW));
    with("pin.l1.not_present_garbage", 1, &|_, _| 0x7fff_ffff_ffff_fffe);
    with("pin.l2.to_writable_frame", 2, &|fixture, _| {
        let f = fixture.frame();
        fixture.entry(f, RW)
    });
    with("pin.l2.to_sealed_empty", 2, &|fixture, _| {
        let f = fixture.frame();
        fixture.seal(f);
        fixture.entry(f, RW)
    });
    with("pin.l2.to_pinned_l2", 2, &|fixture, _| pinned_entry(fixture, 2, RW));
    with("pin.l2.to_pinned_l2_ro", 2, &|fixture, _| pinned_entry(fixture, 2, RO));
    with("pin.l3.to_pinned_l3_ro", 3, &|fixture, _| pinned_entry(fixture, 3, RO));
    with("pin.l4.to_pinned_l4_ro", 4, &|fixture, _| pinned_entry(fixture, 4, RO));
    with("pin.l2.self_ro", 2, &|fixture, table| fixture.entry(table, RO));
    with("pin.l2.self_rw", 2, &|fixture, table| fixture.entry(table, RW));
    with("pin.l4.self_ro", 4, &|fixture, table| fixture.entry(table, RO));
    with("pin.l4.self_rw", 4, &|fixture, table| fixture.entry(table, RW));
    with("pin.l2.to_hypervisor_frame", 2, &|_, _| Mfn(hypervisor_frame()).address() | RW);
    with("pin.l2.not_present_garbage", 2, &|_, _| 0x7fff_ffff_ffff_fffe);
    with("pin.l3.to_l1", 3, &|fixture, _| {
        let f = fixture.frame();
        fixture.seal(f);
        fixture.pin(f, 1);
        fixture.entry(f, RW)
    });

    // A writable mapping inside the tree that is pinned.
    let (leaf, inner) = (fixture.frame(), fixture.save());
    let chain = fixture.chain(4, leaf);
    let l1 = chain[3];
    fixture.unseal(l1);
    fixture.set(l1, 0, fixture.entry(chain[1], RW));
    fixture.seal(l1);
    report.call("pin.l4.tree_maps_own_l3_writable", fixture.pin(chain[0], 4));
    fixture.restore(inner);

    // The hypervisor's slots of a root: their old contents don't matter, and are replaced.
    let root = fixture.frame();
    fixture.set(root, 256, GARBAGE);
    fixture.set(root, 271, u64::MAX);
    fixture.seal(root);
    report.call("pin.l4.garbage_in_hypervisor_slots", fixture.pin(root, 4));
    let kept = [fixture.get(root, 256) == GARBAGE, fixture.get(root, 271) == u64::MAX];
    report.say("pin.l4.garbage_in_hypervisor_slots_kept", kept != [false; 2]);
    report.call("update.slot_256", update(fixture.entry_addr(root, 256), 0));
    report.call("update.slot_271", update(fixture.entry_addr(root, 271), 0));
    report.call("update.slot_272", update(fixture.entry_addr(root, 272), 0));
    report.call("update.slot_255", update(fixture.entry_addr(root, 255), 0));
    fixture.restore(saved);
}

/// Reports loading and dropping roots.
pub(crate) fn roots(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let plain = fixture.frame();
    report.call("root.kernel.writable_frame", ext(MmuextCmd::NewBaseptr, fixture.mfn(plain), 0));
    report.call("root.kernel.hypervisor_frame", ext(MmuextCmd::NewBaseptr, hypervisor_frame(), 0));
    report.call("root.kernel.all_ones", ext(MmuextCmd::NewBaseptr, u64::MAX, 0));
    report.call("root.user.none", ext(MmuextCmd::NewUserBaseptr, 0, 0));
    report.call("root.user.writable_frame", ext(MmuextCmd::NewUserBaseptr, fixture.mfn(plain), 0));
    let l1 = fixture.frame();
    fixture.seal(l1);
    fixture.pin(l1, 1);
    report.call("root.user.l1", ext(MmuextCmd::NewUserBaseptr, fixture.mfn(l1), 0));
    let user = fixture.frame();
    fixture.seal(user);
    report.call("root.user.not_pinned", ext(MmuextCmd::NewUserBaseptr, fixture.mfn(user), 0));
    report.call("root.user.loaded_make_writable", fixture.unseal(user));
    report.call("root.user.unload", ext(MmuextCmd::NewUserBaseptr, 0, 0));
    report.call("root.user.unloaded_make_writable", fixture.unseal(user));

    // A copy of the boot root with all its entries.
    let root = fixture.frame();
    let boot_root = fixture.frames().boot_root();
    for slot in 0..512 {
        fixture.set(root, slot, fixture.frames().entry(boot_root, slot).unwrap_or(0));
    }
    report.call("root.kernel.copy_writable", ext(MmuextCmd::NewBaseptr, fixture.mfn(root), 0));
    fixture.seal(root);
    report.call("root.kernel.copy_not_pinned", ext(MmuextCmd::NewBaseptr, fixture.mfn(root), 0));
    report.call("root.kernel.loaded_make_writable", fixture.unseal(root));
    report.call("root.kernel.pin_loaded", fixture.pin(root, 4));
    report.call("root.kernel.unpin_loaded", fixture.unpin(root));
    report.call("root.kernel.loaded_again", ext(MmuextCmd::NewBaseptr, fixture.mfn(root), 0));
    report.call("root.kernel.back", ext(MmuextCmd::NewBaseptr, boot_root.0, 0));
    report.call("root.kernel.unloaded_make_writable", fixture.unseal(root));
    fixture.restore(saved);
}

/// Reports `mmu_update`.
pub(crate) fn updates(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let (leaf, other, plain, sealed) =
        (fixture.frame(), fixture.frame(), fixture.frame(), fixture.frame());
    let chain = fixture.chain(2, leaf);
    let (l2, l1) = (chain[0], chain[1]);
    report.call("update.setup_pin_l2", fixture.pin(l2, 2));
    let entry = |table: Pfn, index: usize| fixture.entry_addr(table, index);
    let at = entry(l1, 3);

    report.call("update.l1.ro", update(at, fixture.entry(leaf, RO)));
    report.call("update.l1.rw", update(at, fixture.entry(other, RW)));
    report.call("update.l1.rw_of_live_l1", update(at, fixture.entry(l1, RW)));
    report.call("update.l1.rw_of_live_l2", update(at, fixture.entry(l2, RW)));
    report.call("update.l1.ro_of_live_l2", update(at, fixture.entry(l2, RO)));
    report
        .call("update.l1.hypervisor_frame_ro", update(at, Mfn(hypervisor_frame()).address() | RO));
    report
        .call("update.l1.hypervisor_frame_rw", update(at, Mfn(hypervisor_frame()).address() | RW));
    report.call("update.l1.not_present_garbage", update(at, 0x7fff_ffff_ffff_f0fe));
    report.call("update.l1.clear", update(at, 0));
    report.call("update.l2.to_live_l1", update(entry(l2, 5), fixture.entry(l1, RW)));
    report.call("update.l2.to_writable_frame", update(entry(l2, 6), fixture.entry(plain, RW)));
    report.call("update.l2.to_itself_ro", update(entry(l2, 6), fixture.entry(l2, RO)));
    report.call("update.l2.to_itself_rw", update(entry(l2, 6), fixture.entry(l2, RW)));
    report.call("update.l2.superpage", update(entry(l2, 6), fixture.entry(plain, RW | 1 << 7)));
    report.call("update.l2.clear", update(entry(l2, 5), 0));
    update(entry(l2, 6), 0);

    report.call("update.plain_frame", update(entry(plain, 9), 0xdead_0000_0000_0fff));
    report.say("update.plain_frame_stored", format_args!("{:#x}", fixture.get(plain, 9)));
    report.call(
        "update.plain_frame_preserve_ad",
        update(entry(plain, 9) | MMU_PT_UPDATE_PRESERVE_AD, 0x1000),
    );
    report
        .say("update.plain_frame_preserve_ad_stored", format_args!("{:#x}", fixture.get(plain, 9)));
    fixture.seal(sealed);
    report.call("update.sealed_untyped_frame", update(fixture.entry_addr(sealed, 9), 0x1234));
    report.say("update.sealed_untyped_frame_stored", format_args!("{:#x}", fixture.get(sealed, 9)));
    report.call("update.hypervisor_frame", update(Mfn(hypervisor_frame()).address(), 0));
    report.call("update.beyond_memory", update(Mfn(beyond_memory()).address(), 0));
    report.call("update.all_ones", update(!7, 0));
    report.call("update.misaligned", update(at | 4, 0));
    report.call(
        "update.no_translate",
        update(at | MMU_PT_UPDATE_NO_TRANSLATE, fixture.entry(leaf, RO)),
    );
    report.call("update.clear_3", update(at, 0));

    // PRESERVE_AD keeps the accessed and dirty bits, and no other request does.
    update(at, fixture.entry(leaf, RO | 0x40));
    report
        .call("update.preserve_ad", update(at | MMU_PT_UPDATE_PRESERVE_AD, fixture.entry(leaf, 1)));
    report.say("update.preserve_ad_flags", format_args!("{:#x}", fixture.get(l1, 3) & 0xfff & !4));
    report.call("update.normal", update(at, fixture.entry(leaf, 1)));
    report.say("update.normal_flags", format_args!("{:#x}", fixture.get(l1, 3) & 0xfff & !4));

    // A list stops at the first refusal.
    let list = [
        MmuUpdate { ptr: at, val: 0 },
        MmuUpdate { ptr: at | 4, val: 0 },
        MmuUpdate { ptr: entry(l1, 4), val: fixture.entry(leaf, RO) },
    ];
    // SAFETY: fixture frames.
    let (result, done) = unsafe { raw::mmu_updates(&list, domid::SELF.into()) };
    report.call("update.list_with_bad_second", result);
    report.say("update.list_with_bad_second_done", done);
    report.say("update.list_third_untouched", fixture.get(l1, 4) == 0);
    // SAFETY: fixture frames.
    let foreign = |domain: u64| unsafe { raw::mmu_updates(&list[..1], domain).0 };
    report.call("update.foreign_nobody", foreign(77));
    report.call("update.foreign_own_number_0_tables_0", foreign(u64::from(domid::SELF) | 1 << 16));
    report.call("update.foreign_tables_nobody", foreign(u64::from(domid::SELF) | 78 << 16));
    report.call("update.foreign_io", foreign(domid::IO.into()));
    report.call("update.foreign_xen", foreign(domid::XEN.into()));
    report.call("update.foreign_invalid", foreign(domid::INVALID.into()));
    report.call("update.empty_list", call_update(0x1000, 0, 0));
    report.call("update.bad_pointer", call_update(0x1000, 1, 0));
    report.call("update.list_in_hole", call_update(HYPERVISOR_START, 1, 0));
    let pointer = list.as_ptr() as u64;
    report.call("update.done_bad_pointer", call_update(pointer, 1, 0x1000));
    report.call("update.huge_count_bad_pointer", call_update(0x1000, 0x7fff_ffff, 0));

    let pfn = leaf.0;
    let m2p = Mfn(fixture.mfn(leaf)).address() | MMU_MACHPHYS_UPDATE;
    report.call("update.machphys", update(m2p, 0x1234_5678));
    report.say("update.machphys_seen", fixture.frames().pfn(Mfn(fixture.mfn(leaf))).is_none());
    report.call("update.machphys_back", update(m2p, pfn));
    report.call(
        "update.machphys_hypervisor_frame",
        update(Mfn(hypervisor_frame()).address() | MMU_MACHPHYS_UPDATE, 0),
    );
    report.call(
        "update.machphys_beyond",
        update(Mfn(beyond_memory()).address() | MMU_MACHPHYS_UPDATE, 0),
    );
    fixture.restore(saved);
}

fn call_update(list: u64, count: u64, done: u64) -> i64 {
    // SAFETY: every list that is passed here is refused, empty or harmless.
    unsafe { raw::call(Hypercall::MmuUpdate as u64, [list, count, done, domid::SELF.into(), 0]) }
}

/// Reports `update_va_mapping`.
pub(crate) fn va_mappings(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let (frame, table) = (fixture.frame(), fixture.frame());
    let set = |va: u64, val: u64, flags: u64| {
        // SAFETY: fixture frames, and addresses where nothing is mapped.
        unsafe { raw::update_va_mapping(Vaddr(va), val, flags) }
    };
    let va = fixture.va(frame).0;
    let plain = fixture.entry(frame, RW);
    for (key, flags) in [
        ("va_mapping.no_flush", 0u64),
        ("va_mapping.tlb_flush", 1),
        ("va_mapping.invlpg", 2),
        ("va_mapping.flush_type_3", 3),
        ("va_mapping.tlb_flush_all", 5),
        ("va_mapping.invlpg_all", 6),
        ("va_mapping.invlpg_mask_unmapped", 0x1000 | 2),
        ("va_mapping.invlpg_mask_in_hole", HYPERVISOR_START | 2),
    ] {
        report.call(key, set(va, plain, flags));
    }
    report.call("va_mapping.unaligned_address", set(va + 0x123, plain, 2));
    report.call("va_mapping.in_hole", set(HYPERVISOR_START, 0, 0));
    report.call("va_mapping.last_of_hole", set(0xffff_87ff_ffff_f000, 0, 0));
    report.call("va_mapping.noncanonical", set(0x0123_4567_89ab_c000, 0, 0));
    report.call("va_mapping.no_table", set(0x1000, 0, 0));
    report.call("va_mapping.no_table_present", set(0x1000, plain, 0));
    report
        .call("va_mapping.hypervisor_frame_ro", set(va, Mfn(hypervisor_frame()).address() | RO, 2));
    report
        .call("va_mapping.hypervisor_frame_rw", set(va, Mfn(hypervisor_frame()).address() | RW, 2));
    report.call("va_mapping.entry_all_ones", set(va, u64::MAX, 2));
    report.call("va_mapping.clear", set(va, 0, 2));
    report.call("va_mapping.back", set(va, plain, 2));
    fixture.seal(table);
    fixture.pin(table, 1);
    report.call("va_mapping.live_table_rw", set(fixture.va(table).0, fixture.entry(table, RW), 2));
    report.call("va_mapping.live_table_rw_elsewhere", set(va, fixture.entry(table, RW), 2));
    report.call("va_mapping.live_table_ro_elsewhere", set(va, fixture.entry(table, RO), 2));
    set(va, plain, 2);
    // SAFETY: as above.
    let other = |domain: u64| unsafe {
        raw::call(Hypercall::UpdateVaMappingOtherdomain as u64, [va, plain, 2, domain, 0])
    };
    report.call("va_mapping_other.self", other(domid::SELF.into()));
    report.call("va_mapping_other.nobody", other(77));
    fixture.restore(saved);
}

/// Reports the rest of `mmuext_op`.
pub(crate) fn extended(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let (a, b, table) = (fixture.frame(), fixture.frame(), fixture.frame());
    // SAFETY: the numbers are invalid.
    report.call("mmuext.unknown_14", unsafe { raw::mmuext(14, 0, 0) });
    // SAFETY: as above.
    report.call("mmuext.unknown_99", unsafe { raw::mmuext(99, 0, 0) });
    report.call("mmuext.mark_super", ext(MmuextCmd::MarkSuper, fixture.mfn(a), 0));
    report.call("mmuext.unmark_super", ext(MmuextCmd::UnmarkSuper, fixture.mfn(a), 0));
    report.call("mmuext.flush_local", ext(MmuextCmd::TlbFlushLocal, 0, 0));
    report.call("mmuext.flush_all", ext(MmuextCmd::TlbFlushAll, 0, 0));
    report.call("mmuext.invlpg_local", ext(MmuextCmd::InvlpgLocal, fixture.va(a).0, 0));
    report.call("mmuext.invlpg_local_in_hole", ext(MmuextCmd::InvlpgLocal, HYPERVISOR_START, 0));
    report.call(
        "mmuext.invlpg_local_noncanonical",
        ext(MmuextCmd::InvlpgLocal, 0x0123_4567_89ab_cdef, 0),
    );
    report.call("mmuext.invlpg_all", ext(MmuextCmd::InvlpgAll, fixture.va(a).0, 0));
    let mask = 1u64;
    let mask_at = core::ptr::from_ref(&mask) as u64;
    report.call("mmuext.flush_multi", ext(MmuextCmd::TlbFlushMulti, 0, mask_at));
    report.call("mmuext.flush_multi_bad_pointer", ext(MmuextCmd::TlbFlushMulti, 0, 0x1000));
    report.call(
        "mmuext.invlpg_multi_bad_pointer",
        ext(MmuextCmd::InvlpgMulti, fixture.va(a).0, 0x1000),
    );
    report.call("mmuext.flush_cache", ext(MmuextCmd::FlushCache, 0, 0));
    report.call("mmuext.flush_cache_global", ext(MmuextCmd::FlushCacheGlobal, 0, 0));
    report.call("mmuext.set_ldt_none", ext(MmuextCmd::SetLdt, 0, 0));
    report.call("mmuext.set_ldt", ext(MmuextCmd::SetLdt, fixture.va(a).0, 512));
    report.call("mmuext.set_ldt_unaligned", ext(MmuextCmd::SetLdt, fixture.va(a).0 + 8, 8));
    report.call("mmuext.set_ldt_8193", ext(MmuextCmd::SetLdt, fixture.va(a).0, 8193));
    report.call("mmuext.set_ldt_in_hole", ext(MmuextCmd::SetLdt, HYPERVISOR_START, 8));
    report.call("mmuext.set_ldt_none_2", ext(MmuextCmd::SetLdt, 0, 0));
    fixture.set(a, 1, 0x1111);
    fixture.set(b, 1, 0x2222);
    report.call("mmuext.copy_page", ext(MmuextCmd::CopyPage, fixture.mfn(a), fixture.mfn(b)));
    report.say("mmuext.copy_page_copied", fixture.get(a, 1) == 0x2222);
    report.call("mmuext.clear_page", ext(MmuextCmd::ClearPage, fixture.mfn(a), 0));
    report.say("mmuext.clear_page_cleared", fixture.get(a, 1) == 0);
    report.call(
        "mmuext.copy_from_hypervisor",
        ext(MmuextCmd::CopyPage, fixture.mfn(a), hypervisor_frame()),
    );
    report.call(
        "mmuext.copy_to_hypervisor",
        ext(MmuextCmd::CopyPage, hypervisor_frame(), fixture.mfn(a)),
    );
    report.call("mmuext.clear_hypervisor", ext(MmuextCmd::ClearPage, hypervisor_frame(), 0));
    fixture.seal(table);
    report.call("mmuext.clear_sealed", ext(MmuextCmd::ClearPage, fixture.mfn(table), 0));
    fixture.pin(table, 1);
    report.call("mmuext.clear_live_table", ext(MmuextCmd::ClearPage, fixture.mfn(table), 0));
    report.call(
        "mmuext.copy_to_live_table",
        ext(MmuextCmd::CopyPage, fixture.mfn(table), fixture.mfn(b)),
    );
    report.call(
        "mmuext.copy_from_live_table",
        ext(MmuextCmd::CopyPage, fixture.mfn(a), fixture.mfn(table)),
    );
    let ops = [
        MmuextOp { cmd: MmuextCmd::TlbFlushLocal as u32, ..MmuextOp::default() },
        MmuextOp { cmd: MmuextCmd::UnpinTable as u32, pad: 0, arg1: fixture.mfn(b), arg2: 0 },
        MmuextOp { cmd: MmuextCmd::UnpinTable as u32, pad: 0, arg1: fixture.mfn(table), arg2: 0 },
    ];
    // SAFETY: fixture frames.
    let (result, done) = unsafe { raw::mmuext_ops(&ops, domid::SELF.into()) };
    report.call("mmuext.list_with_bad_second", result);
    report.say("mmuext.list_with_bad_second_done", done);
    // SAFETY: fixture frames.
    let foreign = |domain: u64| unsafe { raw::mmuext_ops(&ops[..1], domain).0 };
    report.call("mmuext.foreign_nobody", foreign(77));
    report.call("mmuext.foreign_io", foreign(domid::IO.into()));
    // SAFETY: bad pointers.
    let raw = |list: u64, count: u64| unsafe {
        raw::call(Hypercall::MmuextOp as u64, [list, count, 0, domid::SELF.into(), 0])
    };
    report.call("mmuext.bad_pointer", raw(0x1000, 1));
    report.call("mmuext.empty_list", raw(0x1000, 0));
    report.call("mmuext.in_hole", raw(HYPERVISOR_START, 1));
    fixture.restore(saved);
}
