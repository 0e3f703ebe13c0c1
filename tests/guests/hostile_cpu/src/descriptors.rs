//! Descriptors: random ones, and tables that are removed while their selectors are loaded.

use crate::outcome::print_outcome;
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::entry::trap;
use pinfold_guest::fixtures::{Check, Random, TableFixture};
use pinfold_guest::hypercall::sched;
use pinfold_guest::println;
use pinfold_guest::raw;

/// Code, 64 bit, DPL 3.
pub(crate) const CODE: u64 = 0x00af_fb00_0000_ffff;
/// Data, DPL 3.
pub(crate) const DATA: u64 = 0x00cf_f300_0000_ffff;

fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: the descriptors are in fixture frames.
    unsafe { raw::call(op as u64, args) }
}

fn set_gdt(fixture: &TableFixture, table: Pfn, entries: u64) -> i64 {
    let frames = [fixture.mfn(table)];
    call(Hypercall::SetGdt, [frames.as_ptr() as u64, entries, 0, 0, 0])
}

pub(crate) fn set_ldt(base: u64, entries: u64) -> i64 {
    // SAFETY: Rust code uses no selector of it.
    unsafe { raw::mmuext(MmuextCmd::SetLdt as u32, base, entries) }
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    load_random(fixture, check);
    remove_in_use(fixture, check);
    set_ldts(fixture, check);
    fixture.restore(saved);
}

/// Writes random descriptors, and loads and calls through each one that is accepted.
fn load_random(fixture: &mut TableFixture, check: &mut Check) {
    let table = fixture.frame();
    fixture.seal(table);
    check.equal("set_gdt of an empty table", set_gdt(fixture, table, 512), 0);
    let mut random = Random::new(1);
    let (mut taken, mut loaded, mut called) = (0u32, 0u32, 0u32);
    for _ in 0..4000 {
        let descriptor = random.next_u64();
        let index = 1 + random.index(511);
        if call(
            Hypercall::UpdateDescriptor,
            [fixture.entry_addr(table, index), descriptor, 0, 0, 0],
        ) != 0
        {
            continue;
        }
        taken += 1;
        let selector = (index << 3 | 3) as u32;
        // SAFETY: the bases and limits of DS and ES are not used.
        loaded += u32::from(
            unsafe { catch(|| asm!("mov ds, {0:e}", "mov es, {0:e}", in(reg) selector)) }.is_ok(),
        );
        called += u32::from(far_call(selector).is_ok());
        if taken % 16 == 0 {
            let _ = sched::yield_now();
        }
    }
    println!("CPU random descriptors: loaded={loaded} called={called}");
    // Pinfold is stricter: it refuses a present descriptor of type 0.
    let types = if check.on_xen() { 3000..=3100 } else { 2990..=3090 };
    check.within("accepted random descriptors", taken.into(), types);
    check.holds("some were accepted", taken > 100);
    check.equal("no far call succeeds", called, 0);
    // SAFETY: null selectors.
    unsafe { asm!("mov ds, {0:e}", "mov es, {0:e}", in(reg) 0) };
    check.equal("unload", set_gdt(fixture, table, 0), 0);
    fixture.unseal(table);
    fixture.clear(table);
}

/// Makes a far call by a selector: through a gate, or to address 0.
fn far_call(selector: u32) -> Result<(), Trap> {
    let target: [u32; 3] = [0, 0, selector];
    // SAFETY: nothing is mapped at address 0; a gate of the guest has no privilege.
    unsafe { catch(|| asm!(".byte 0x48, 0xff, 0x18", in("rax") target.as_ptr())) }
}

/// Removes tables while their selectors are loaded: at the next switch they can't be loaded again.
fn remove_in_use(fixture: &mut TableFixture, check: &mut Check) {
    let table = fixture.frame();
    fixture.set(table, 1, CODE);
    fixture.set(table, 2, DATA);
    fixture.seal(table);
    check.equal("set_gdt", set_gdt(fixture, table, 512), 0);
    let before = trap::failsafes();
    for round in 0..50 {
        // SAFETY: the bases and limits of DS, ES and FS are not used.
        let loaded = unsafe {
            catch(|| asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) 0x13))
        };
        check.holds("a data selector is loaded", loaded.is_ok());
        let gone = if round % 2 == 0 {
            set_gdt(fixture, table, 0)
        } else {
            call(Hypercall::UpdateDescriptor, [fixture.entry_addr(table, 2), 0, 0, 0, 0])
        };
        check.equal("remove it", gone, 0);
        let _ = sched::yield_now();
        let _ = pinfold_guest::entry::time::sleep(1_000_000);
        check.equal("set the GDT again", set_gdt(fixture, table, 512), 0);
        let again =
            call(Hypercall::UpdateDescriptor, [fixture.entry_addr(table, 2), DATA, 0, 0, 0]);
        check.equal("set the descriptor again", again, 0);
    }
    println!("hostile_cpu: {} failsafe callbacks", trap::failsafes() - before);
    // SAFETY: null selectors.
    unsafe { asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", in(reg) 0) };
    check.equal("unload", set_gdt(fixture, table, 0), 0);
    fixture.unseal(table);
}

/// Sets an LDT at unmapped, writable and read-only pages.
fn set_ldts(fixture: &mut TableFixture, check: &mut Check) {
    let (table, data) = (fixture.frame(), fixture.frame());
    fixture.set(table, 0, CODE);
    fixture.set(table, 1, DATA);
    fixture.set(data, 1, DATA);
    fixture.seal(table);
    let load = |selector: u32| {
        // SAFETY: the base and limit of DS are not used.
        unsafe { catch(|| asm!("mov ds, {0:e}", in(reg) selector)) }.map(|()| 0)
    };
    for (what, base, entries) in [
        ("LDT in a read-only page", fixture.va(table).0, 512),
        ("LDT of one entry", fixture.va(table).0, 1),
        ("LDT in a writable page", fixture.va(data).0, 512),
        ("LDT in an unmapped page", 0x1000, 512),
        ("LDT of 8192 entries", fixture.va(table).0, 8192),
    ] {
        check.equal(what, set_ldt(base, entries), 0);
        print_outcome(check, what, load(0xf));
        let _ = sched::yield_now();
        print_outcome(check, "its last entry", load(0xffff));
        // SAFETY: as above.
        unsafe { asm!("mov ds, {0:e}", in(reg) 0) };
    }
    check.equal("no LDT", set_ldt(0, 0), 0);
    print_outcome(check, "without LDT", load(0xf));
    fixture.unseal(table);
    // A page of a loaded LDT may keep its type until the LDT is set again.
    check.equal("the page can be made writable", fixture.unseal(data), 0);
}
