//! The state at entry: registers, page tables, the shared page.

use crate::report::Report;
use core::fmt::{self, Display};
use pinfold_abi::mmu::ENTRY_ADDRESS;
use pinfold_abi::shared_info::SharedInfo;
use pinfold_guest::addr::{Mfn, PAGE_SIZE, Pfn, Vaddr};
use pinfold_guest::entry::{Boot, VIRT_BASE, catch, entry_registers};
use pinfold_guest::fixtures::{RW, TableFixture};
use pinfold_guest::raw::update_va_mapping;

struct Hex(u64);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Reports the registers. The stack and the start info page are given by what they are.
pub(crate) fn registers(report: &mut Report) {
    let r = entry_registers();
    let others = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
        r.r15,
    ];
    report.say("entry.other_registers_zero", others.iter().all(|&r| r == 0));
    report.say("entry.rflags", Hex(r.rflags));
    for (key, selector) in [
        ("entry.cs", r.cs),
        ("entry.ss", r.ss),
        ("entry.ds", r.ds),
        ("entry.es", r.es),
        ("entry.fs", r.fs),
        ("entry.gs", r.gs),
    ] {
        report.say(key, Hex(selector));
    }
    report.say("entry.rsp_in_page", Hex(r.rsp % PAGE_SIZE));
}

/// Reports what the builder made.
pub(crate) fn memory(boot: &Boot, fixture: &mut TableFixture, report: &mut Report) {
    let info = boot.start_info();
    let frames = *fixture.frames();
    let page = |va: u64| (va - VIRT_BASE) / PAGE_SIZE;
    let (p2m, start, tables) =
        (page(info.mfn_list), page(core::ptr::from_ref(info) as u64), page(info.pt_base));
    let stack = page(entry_registers().rsp - 1);
    let magic = core::str::from_utf8(&info.magic).unwrap_or("?");
    report.say("boot.magic", magic.trim_end_matches('\0'));
    report
        .say("boot.order_p2m_start_tables_stack", p2m < start && start < tables && tables < stack);
    report.say("boot.stack_follows_tables", stack == tables + info.nr_pt_frames);
    report.say("boot.rsi_is_start_info", entry_registers().rsi.is_multiple_of(PAGE_SIZE));
    let end = frames.mapped_end().0;
    report.say("boot.mapped_end_4mib", end.is_multiple_of(1024));
    report.say("boot.spare_at_least_512kib", end - stack > 128);
    let sane = (0..frames.count())
        .all(|pfn| frames.mfn(Pfn(pfn)).and_then(|mfn| frames.pfn(mfn)) == Some(Pfn(pfn)));
    report.say("boot.p2m_and_m2p_agree", sane);

    let root = frames.boot_root();
    let flags = |entry: Option<(_, u64)>| Hex(entry.map_or(0, |(_, e)| e & !ENTRY_ADDRESS));
    // The accessed and dirty bits depend on what ran before: they are reported as set.
    let settle = |Hex(flags): Hex| Hex(flags | 0x60);
    let data = frames.va(fixture.frames().first_free());
    report.say("boot.l4_entry", settle(flags(frames.walk(root, data, 4))));
    report.say("boot.l3_entry", settle(flags(frames.walk(root, data, 3))));
    report.say("boot.l2_entry", settle(flags(frames.walk(root, data, 2))));
    report.say("boot.l1_entry", settle(flags(frames.walk(root, data, 1))));
    let table = Vaddr(info.pt_base);
    report.say("boot.l1_entry_of_table", settle(flags(frames.walk(root, table, 1))));
    report.say("boot.root_first_of_tables", frames.pfn_at(table) == frames.pfn(root));
    let mapped_low = frames.walk(root, Vaddr(VIRT_BASE), 1).is_some_and(|(_, e)| e & 1 != 0);
    report.say("boot.pfn0_mapped", mapped_low);
    let others = (0..512).filter(|slot| !(256..272).contains(slot) && *slot != 511);
    let clean = others.clone().all(|slot| frames.entry(root, slot) == Some(0));
    report.say("boot.other_l4_slots_zero", clean);

    let pinned = fixture.unpin(frames.pfn(root).unwrap_or_default());
    report.call("boot.unpin_root", pinned);
    report.call("boot.pin_root_again", fixture.pin(frames.pfn(root).unwrap_or_default(), 4));
    let l3 = frames.walk(root, data, 4).map(|(_, e)| Mfn::from_address(e & ENTRY_ADDRESS).0);
    let l3 = l3.and_then(|mfn| frames.pfn(Mfn(mfn))).unwrap_or_default();
    report.call("boot.unpin_l3", fixture.unpin(l3));
}

/// Reports the shared page, which is mapped in place of a fixture frame meanwhile.
pub(crate) fn shared_info(boot: &Boot, fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let spare = fixture.frame();
    let va = fixture.va(spare);
    // SAFETY: Rust doesn't use the fixture's frame at this address.
    let result = unsafe { update_va_mapping(va, boot.start_info().shared_info | RW, 2) };
    report.call("shared_info.map", result);
    if result == 0 {
        let shared = va.0 as *const SharedInfo;
        // SAFETY: the page is mapped, the structure fits, and all bytes are valid for it.
        let shared = unsafe { shared.read_volatile() };
        let vcpu = shared.vcpu_info[0];
        report.say("shared_info.upcall_pending", vcpu.evtchn_upcall_pending);
        report.say("shared_info.upcall_mask", vcpu.evtchn_upcall_mask);
        report.say("shared_info.upcall_mask_31", shared.vcpu_info[31].evtchn_upcall_mask);
        report.say("shared_info.pending_zero", shared.evtchn_pending.iter().all(|&w| w == 0));
        report.say("shared_info.mask_zero", shared.evtchn_mask.iter().all(|&w| w == 0));
        report.say("shared_info.time_mul_set", vcpu.time.tsc_to_system_mul != 0);
        report.say("shared_info.time_version_even", vcpu.time.version.is_multiple_of(2));
        report.say("shared_info.wall_clock_set", shared.wc_sec != 0);
        report.say("shared_info.max_pfn", shared.max_pfn);
        // SAFETY: reads an unmapped address, to have it in cr2.
        let fault = unsafe { catch::read(0x1234_5678) };
        report.trap("shared_info.fault", fault.map(|_| "read"));
        // SAFETY: it is still mapped.
        let after = unsafe { (va.0 as *const SharedInfo).read_volatile() };
        report.say("shared_info.cr2", Hex(after.vcpu_info[0].cr2));
    }
    fixture.restore(saved);
}
