//! Page tables: updates, pins, emulated stores.

use crate::meter::{Meter, expect};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{
    MmuUpdate, UVMF_INVLPG, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES,
};
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

/// Entries of one batch.
const BATCH: usize = 32;

/// `mmu_update` of one entry and of a batch, and `update_va_mapping`.
pub(crate) fn updates(meter: &Meter, fixture: &mut TableFixture) {
    let saved = fixture.save();
    let (table, page, other) = (fixture.frame(), fixture.frame(), fixture.frame());
    fixture.seal(table);
    expect("pin", fixture.pin(table, 1), 0);
    // Alternates between two frames, so that no update is a no-op.
    let value = |turn: u64| fixture.entry(if turn.is_multiple_of(2) { page } else { other }, RW);
    let at = fixture.entry_addr(table, 0);
    meter.row("mmu_update_1", 1, |turn| {
        // SAFETY: the table maps nothing that is used.
        expect("mmu_update", unsafe { raw::mmu_update(at, value(turn)) }, 0);
    });
    let mut batch = [MmuUpdate::default(); BATCH];
    meter.row("mmu_update_32", BATCH as u64, |turn| {
        for (index, update) in batch.iter_mut().enumerate() {
            *update = MmuUpdate { ptr: fixture.entry_addr(table, index), val: value(turn) };
        }
        // SAFETY: as above.
        let (result, _) = unsafe { raw::mmu_updates(&batch, domid::SELF.into()) };
        expect("mmu_update", result, 0);
    });
    let va = fixture.va(page);
    meter.row("update_va_mapping_invlpg", 1, |turn| {
        // SAFETY: the page is not used meanwhile.
        let result = unsafe { raw::update_va_mapping(va, value(turn), UVMF_INVLPG) };
        expect("update_va_mapping", result, 0);
    });
    expect("map back", fixture.map(page, RW), 0);
    fixture.restore(saved);
}

/// Pins and unpins.
pub(crate) fn pins(meter: &Meter, fixture: &mut TableFixture) {
    for (name, flags) in [("pin_unpin_l1_ro", RO), ("pin_unpin_l1_rw", RW)] {
        let saved = fixture.save();
        let table = fixture.frame();
        let target = fixture.frame();
        for index in 0..512 {
            fixture.set(table, index, fixture.entry(target, flags));
        }
        fixture.seal(table);
        meter.row(name, 1, |_| {
            expect("pin", fixture.pin(table, 1), 0);
            expect("unpin", fixture.unpin(table), 0);
        });
        fixture.restore(saved);
    }
    let saved = fixture.save();
    let page = fixture.frame();
    let chain = fixture.chain(4, page);
    meter.row("pin_unpin_tree", 1, |_| {
        expect("pin", fixture.pin(chain[0], 4), 0);
        expect("unpin", fixture.unpin(chain[0]), 0);
    });
    fixture.restore(saved);
    let saved = fixture.save();
    let table = fixture.frame();
    // Mapped writable in the initial address space: includes the report that names the mapping.
    meter.row("refused_pin", 1, |_| {
        expect("refused pin", fixture.pin(table, 1), Errno::EINVAL.as_result());
    });
    fixture.restore(saved);
}

/// Plain stores to a live page table, which are emulated.
pub(crate) fn stores(meter: &Meter, fixture: &mut TableFixture) {
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    // SAFETY: switches emulation on, nothing else.
    expect("vm_assist", unsafe { raw::call(Hypercall::VmAssist as u64, assist) }, 0);
    let saved = fixture.save();
    let (table, page, other) = (fixture.frame(), fixture.frame(), fixture.frame());
    fixture.seal(table);
    expect("pin", fixture.pin(table, 1), 0);
    let values = [fixture.entry(page, RO), fixture.entry(other, RO)];
    let mut index = 0;
    meter.row("emulated_store", 1, |_| {
        index ^= 1;
        fixture.set(table, 0, values[index]);
    });
    fixture.restore(saved);
}
