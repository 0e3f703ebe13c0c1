//! Which descriptors are accepted, and how they are changed.

use crate::report::Report;
use pinfold_abi::hypercall::Hypercall;
use pinfold_guest::addr::Mfn;
use pinfold_guest::fixtures::{RO, TableFixture};
use pinfold_guest::raw;

/// Makes a flat descriptor with this type field (bits 40 to 44, of which the highest is S) and
/// privilege.
fn descriptor(kind: u64, dpl: u64, present: bool) -> u64 {
    0x00af_0000_0000_ffff | kind << 40 | dpl << 45 | u64::from(present) << 47
}

/// Reports `set_gdt` and `update_descriptor`.
pub(crate) fn probe(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let gdt = fixture.frame();
    let set_gdt = |fixture: &TableFixture, entries: u64| {
        let frames = [fixture.mfn(gdt)];
        let args = [frames.as_ptr() as u64, entries, 0, 0, 0];
        // SAFETY: the GDT is in fixture frames, and no selector of it is loaded.
        unsafe { raw::call(Hypercall::SetGdt as u64, args) }
    };
    // SAFETY: as above.
    let update = |address: u64, value: u64| unsafe {
        raw::call(Hypercall::UpdateDescriptor as u64, [address, value, 0, 0, 0])
    };
    report.call("gdt.writable_frame", set_gdt(fixture, 16));
    fixture.seal(gdt);
    report.call("gdt.sealed", set_gdt(fixture, 16));
    report.call("gdt.loaded_make_writable", fixture.unseal(gdt));
    report.call("gdt.loaded_pin", fixture.pin(gdt, 1));
    report.call("gdt.7169_entries", set_gdt(fixture, 7169));
    report.call("gdt.mmu_update_of_it", {
        // SAFETY: a fixture frame.
        unsafe { raw::mmu_update(fixture.entry_addr(gdt, 3), 0) }
    });

    let at = |fixture: &TableFixture, index: usize| fixture.entry_addr(gdt, index);
    let mut refused = [0u32; 4];
    for dpl in 0..4u64 {
        for kind in 0..32u64 {
            if update(at(fixture, 20), descriptor(kind, dpl, true)) != 0 {
                refused[dpl as usize] |= 1 << kind;
            }
        }
    }
    for (dpl, key) in [
        "descriptor.refused_dpl0",
        "descriptor.refused_dpl1",
        "descriptor.refused_dpl2",
        "descriptor.refused_dpl3",
    ]
    .into_iter()
    .enumerate()
    {
        report.say(key, format_args!("{:#x}", refused[dpl]));
    }
    let absent = (0..32).all(|kind| update(at(fixture, 20), descriptor(kind, 0, false)) == 0);
    report.say("descriptor.absent_all_accepted", absent);
    report.call("descriptor.null", update(at(fixture, 20), 0));
    for (key, value) in [
        ("descriptor.stored.code64_dpl0", descriptor(0x1a, 0, true)),
        ("descriptor.stored.code64_dpl3", descriptor(0x1a, 3, true)),
        ("descriptor.stored.data_dpl0", descriptor(0x12, 0, true)),
        ("descriptor.stored.conforming_dpl0", descriptor(0x1e, 0, true)),
        ("descriptor.stored.call_gate_dpl3", descriptor(0x0c, 3, true)),
        ("descriptor.stored.call_gate_dpl0", descriptor(0x0c, 0, true)),
        ("descriptor.stored.tss_dpl3", descriptor(0x09, 3, true)),
        ("descriptor.stored.ldt_dpl3", descriptor(0x02, 3, true)),
        ("descriptor.stored.int_gate_dpl3", descriptor(0x0e, 3, true)),
        ("descriptor.stored.code_l_and_d", descriptor(0x1a, 3, true) | 1 << 54),
    ] {
        update(at(fixture, 21), 0);
        let result = update(at(fixture, 21), value);
        if result == 0 {
            let stored = fixture.get(gdt, 21);
            report.say(key, format_args!("{:#x}", stored ^ value));
        } else {
            report.call(key, result);
        }
    }
    report.call("descriptor.misaligned", update(at(fixture, 20) + 4, 0));
    let plain = fixture.frame();
    report.call(
        "descriptor.in_writable_frame",
        update(fixture.entry_addr(plain, 1), descriptor(0x12, 3, true)),
    );
    report.say(
        "descriptor.in_writable_frame_stored",
        fixture.get(plain, 1) == descriptor(0x12, 3, true),
    );
    report.call(
        "descriptor.bad_in_writable_frame",
        update(fixture.entry_addr(plain, 1), descriptor(0x09, 3, true)),
    );
    let table = fixture.frame();
    fixture.seal(table);
    fixture.pin(table, 1);
    report.call("descriptor.in_live_table", update(fixture.entry_addr(table, 1), 0));
    report.call("descriptor.beyond_memory", update(0x000f_ffff_ffff_f000, 0));
    report.call("gdt.unload", set_gdt(fixture, 0));
    report.call("gdt.unloaded_make_writable", fixture.unseal(gdt));

    // A GDT that contains a bad descriptor already.
    fixture.set(gdt, 3, descriptor(0x09, 3, true));
    fixture.seal(gdt);
    report.call("gdt.with_tss", set_gdt(fixture, 16));
    fixture.unseal(gdt);
    fixture.set(gdt, 3, 0);
    fixture.set(gdt, 511, descriptor(0x09, 3, true));
    fixture.seal(gdt);
    report.call("gdt.with_tss_past_its_end", set_gdt(fixture, 16));
    report.call("gdt.unload_2", set_gdt(fixture, 0));
    let frame_list = [Mfn::from_address(u64::MAX).0];
    // SAFETY: a frame that doesn't exist.
    let bad =
        unsafe { raw::call(Hypercall::SetGdt as u64, [frame_list.as_ptr() as u64, 8, 0, 0, 0]) };
    report.call("gdt.bad_frame", bad);
    // SAFETY: a bad pointer.
    let bad = unsafe { raw::call(Hypercall::SetGdt as u64, [0x1000, 8, 0, 0, 0]) };
    report.call("gdt.bad_pointer", bad);
    report.call("gdt.map_ro_after", fixture.map(gdt, RO));
    fixture.restore(saved);
}
