//! Entries that aren't present but name memory: on a processor with L1TF they must be refused, however
//! they are made.

use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{ENTRY_ADDRESS, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES};
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, catch::catch};
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::raw;

const EINVAL: i64 = -22;
/// Present, writable, user.
const PRESENT: u64 = 0x7;

/// Makes them in every way. `refused`: whether the processor has the flaw.
pub(crate) fn run(boot: &Boot, refused: bool) -> Exit {
    let mut check = Check::new("misbehave", boot);
    let mut fixture = TableFixture::new(Frames::new(boot));
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    // SAFETY: from now on, stores to tables are emulated.
    let assisted = unsafe { raw::call(Hypercall::VmAssist as u64, assist) };
    check.equal("vm_assist", assisted, 0);
    let (table, page) = (fixture.frame(), fixture.frame());
    let named = fixture.entry(page, 0) & ENTRY_ADDRESS;
    let beyond = !named & ENTRY_ADDRESS;
    // The inverted form, which kernels that know of the flaw use, is accepted on every processor.
    for (what, value, refused) in [
        ("own frame", named, refused),
        ("own frame, writable", named | 2, refused),
        (
            "own frame, with an address bit that the processor may not have",
            named | 1 << 51,
            refused,
        ),
        ("inverted", beyond, false),
        ("nothing", 0, false),
    ] {
        let answer = if refused { EINVAL } else { 0 };
        // In a new table.
        fixture.clear(table);
        fixture.set(table, 7, value);
        fixture.seal(table);
        check.equal(what, fixture.pin(table, 1), answer);
        if !refused {
            check.equal("unpin", fixture.unpin(table), 0);
        }
        // In a live table: by a call, and by a store.
        fixture.unseal(table);
        fixture.clear(table);
        fixture.seal(table);
        check.equal("pin", fixture.pin(table, 1), 0);
        // SAFETY: the table isn't in use.
        let update = unsafe { raw::mmu_update(fixture.entry_addr(table, 7), value) };
        check.equal(what, update, answer);
        let place = fixture.va(table).0 + 8 * 8;
        // SAFETY: the table isn't in use; a store that is refused faults, and is caught.
        let stored = unsafe { catch(|| (place as *mut u64).write_volatile(value)) };
        check.equal(what, stored.is_err(), refused);
        check.equal(
            "the entry in the table",
            fixture.get(table, 7),
            if refused { 0 } else { value },
        );
        check.equal(
            "the entry in the table",
            fixture.get(table, 8),
            if refused { 0 } else { value },
        );
        check.equal("unpin", fixture.unpin(table), 0);
        fixture.unseal(table);
        // SAFETY: nothing else uses the page.
        let mapping = unsafe { raw::update_va_mapping(fixture.va(page), value, 0) };
        check.equal(what, mapping, answer);
        check.equal("mapped again", fixture.map(page, PRESENT), 0);
    }
    check.verdict()
}
