//! Which memory types may be mixed, entry by entry.

use super::Policy;
use crate::hostile::check::{Check, Expect};
use alloc::vec::Vec;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{
    EntryFlags, MemoryType, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES,
};
use pinfold_abi::pinfold::Mapping;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::{Native, catch};
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::mmu::Mmu;
use pinfold_guest::raw;

const INVALID: Expect = Expect::Refused(EINVAL);

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: what this file asks for concerns fixture frames.
    unsafe { raw::mmu_update(ptr, val) }
}

/// The result of mixing types.
fn mixing(policy: Policy) -> Expect {
    match policy {
        Policy::Strict => INVALID,
        Policy::Report => Expect::Done,
    }
}

pub(super) fn run(
    mmu: &mut Mmu<Native>,
    fixture: &mut TableFixture,
    check: &mut Check,
    policy: Policy,
) {
    for first in MemoryType::ALL {
        for second in MemoryType::ALL.into_iter().filter(|&second| second != first) {
            pair(mmu, fixture, check, policy, [first, second]);
        }
    }
    own_entry(fixture, check, policy);
    inside_a_table(fixture, check, policy);
    stores(fixture, check, policy);
    for memory in MemoryType::ALL.into_iter().skip(1) {
        uses_of_tables(fixture, check, memory);
        uses_of_data(fixture, check, memory);
    }
}

/// Makes an L1 table, pinned, and a frame without any mapping.
fn bare(fixture: &mut TableFixture, check: &mut Check) -> (Pfn, Pfn) {
    let (table, frame) = (fixture.frame(), fixture.frame());
    fixture.seal(table);
    check.call("pin of an empty table", fixture.pin(table, 1), Expect::Done);
    check.call("unmapping", fixture.map(frame, 0), Expect::Done);
    (table, frame)
}

fn flags(memory: MemoryType) -> u64 {
    memory.flags().bits()
}

/// Two types meet in three entries of a table: two of the first type, then one of the second.
fn pair(
    mmu: &mut Mmu<Native>,
    fixture: &mut TableFixture,
    check: &mut Check,
    policy: Policy,
    types: [MemoryType; 2],
) {
    let saved = fixture.save();
    let [first, second] = types.map(flags);
    let (table, frame) = bare(fixture, check);
    let set = |index, entry| update(fixture.entry_addr(table, index), entry);
    check.call("a first mapping", set(0, fixture.entry(frame, RO | first)), Expect::Done);
    check.call("another of the type", set(1, fixture.entry(frame, RW | first)), Expect::Done);
    for other in [RO | second, RW | second] {
        check.call("another type", set(2, fixture.entry(frame, other)), mixing(policy));
        let present: &[u64] =
            if policy == Policy::Strict { &[first, first] } else { &[first, first, second] };
        check.holds("the hypervisor names all of them", found(mmu, frame, table) == present);
        check.call("clearing", set(2, 0), Expect::Done);
    }
    // One mapping of the other type is enough.
    check.call("clearing", set(0, 0), Expect::Done);
    check.call("with one left", set(2, fixture.entry(frame, RO | second)), mixing(policy));
    check.call("clearing", set(2, 0), Expect::Done);
    check.call("clearing", set(1, 0), Expect::Done);
    check.call("with none left", set(2, fixture.entry(frame, RW | second)), Expect::Done);
    check.call("the new type twice", set(0, fixture.entry(frame, RO | second)), Expect::Done);
    check.call("clearing", set(0, 0), Expect::Done);
    check.call("clearing", set(2, 0), Expect::Done);
    fixture.restore(saved);
}

/// Returns the types of a frame's mappings, all of which must be in one table, ordered by index.
fn found(mmu: &mut Mmu<Native>, frame: Pfn, table: Pfn) -> Vec<u64> {
    let mut mappings: Vec<Mapping> = mmu.find_aliases(&[frame]).unwrap_or_default();
    let table = mmu.mfn(table).0;
    if mappings.iter().any(|mapping| mapping.table != table) {
        return Vec::new();
    }
    mappings.sort_unstable_by_key(|mapping| mapping.index);
    mappings.iter().map(|mapping| mapping.entry & MemoryType::FLAGS.bits()).collect()
}

/// The only mapping of a frame can't change its type in place: it conflicts with itself.
fn own_entry(fixture: &mut TableFixture, check: &mut Check, policy: Policy) {
    let saved = fixture.save();
    let frame = fixture.frame();
    fixture.set(frame, 7, 0x1234);
    for memory in MemoryType::ALL.into_iter().skip(1) {
        check.call("in place", fixture.map(frame, RW | flags(memory)), mixing(policy));
        check.call("unmapping", fixture.map(frame, 0), Expect::Done);
        check.call("after it is gone", fixture.map(frame, RW | flags(memory)), Expect::Done);
        check.holds("the contents stay", fixture.get(frame, 7) == 0x1234);
        fixture.set(frame, 7, 0x1234);
        check.call("unmapping", fixture.map(frame, 0), Expect::Done);
        check.call("and back", fixture.map(frame, RW), Expect::Done);
    }
    fixture.restore(saved);
}

/// Tables whose entries conflict with each other, or with existing mappings.
fn inside_a_table(fixture: &mut TableFixture, check: &mut Check, policy: Policy) {
    let saved = fixture.save();
    let frame = fixture.frame();
    let combining = flags(MemoryType::WriteCombining);
    fixture.map(frame, 0);
    let table = fixture.frame();
    fixture.set(table, 3, fixture.entry(frame, RO));
    fixture.set(table, 300, fixture.entry(frame, RW | combining));
    fixture.seal(table);
    check.call("pin of a table with two types", fixture.pin(table, 1), mixing(policy));
    if policy == Policy::Report {
        check.call("unpin", fixture.unpin(table), Expect::Done);
    }
    fixture.unseal(table);
    fixture.set(table, 3, fixture.entry(frame, RO | combining));
    fixture.seal(table);
    check.call("pin of a table with one type", fixture.pin(table, 1), Expect::Done);
    check.call("another type in the direct map", fixture.map(frame, RO), mixing(policy));
    check.call("the same type in the direct map", fixture.map(frame, RO | combining), Expect::Done);
    check.call("unmapping", fixture.map(frame, 0), Expect::Done);
    check.call("unpin", fixture.unpin(table), Expect::Done);
    fixture.restore(saved);
}

/// The same by stores to a live table, which the hypervisor emulates.
fn stores(fixture: &mut TableFixture, check: &mut Check, policy: Policy) {
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    // SAFETY: affects stores to tables only.
    let assisted = unsafe { raw::call(Hypercall::VmAssist as u64, assist) };
    check.call("vm_assist", assisted, Expect::Done);
    let saved = fixture.save();
    let (table, frame) = bare(fixture, check);
    let store = |index: u64, word| {
        // SAFETY: a fixture table, which is not in use.
        unsafe { catch::write(fixture.va(table).0 + 8 * index, word) }
    };
    let uncached = flags(MemoryType::Uncached);
    check.holds("a first type", store(0, fixture.entry(frame, RW | uncached)).is_ok());
    check.holds("the same again", store(1, fixture.entry(frame, RO | uncached)).is_ok());
    let other = store(2, fixture.entry(frame, RO));
    match policy {
        Policy::Strict => {
            check.trap("another", other, 14);
            check.holds("nothing is stored", fixture.get(table, 2) == 0);
        }
        Policy::Report => check.holds("another is accepted", other.is_ok()),
    }
    for index in 0..3 {
        check.holds("clearing", store(index, 0).is_ok());
    }
    check.holds("another, after all", store(2, fixture.entry(frame, RO)).is_ok());
    check.holds("clearing", store(2, 0).is_ok());
    fixture.restore(saved);
}

/// What the processor or the hypervisor reads as a table must be write-back under every policy.
fn uses_of_tables(fixture: &mut TableFixture, check: &mut Check, memory: MemoryType) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    check.call("pin of a plain tree", fixture.pin(live[0], 4), Expect::Done);
    let window = fixture.frame();
    for &table in &live {
        let entry = fixture.entry(table, RO | flags(memory));
        check.call("a table in the direct map", fixture.map(table, RO | flags(memory)), INVALID);
        check.call("in an L1", update(fixture.entry_addr(live[3], 77), entry), INVALID);
        // SAFETY: the fixture frame's entry in the direct map.
        let at = unsafe { raw::update_va_mapping(fixture.va(window), entry, 0) };
        check.call("at another frame's address", at, INVALID);
    }
    for &table in &live[..3] {
        let plain = fixture.get(table, 0) & !EntryFlags::ACCESSED.bits();
        let bits = memory.flags().intersection(EntryFlags::WRITE_THROUGH | EntryFlags::NO_CACHE);
        if !bits.is_empty() {
            let entry = update(fixture.entry_addr(table, 0), plain | bits.bits());
            check.call("an upper entry", entry, INVALID);
        }
    }
    fixture.restore(saved);
}

/// A frame that is mapped with another type can't become a table, at whatever level.
fn uses_of_data(fixture: &mut TableFixture, check: &mut Check, memory: MemoryType) {
    let saved = fixture.save();
    let (table, frame) = bare(fixture, check);
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    check.call("pin of a plain tree", fixture.pin(live[0], 4), Expect::Done);
    for access in [RO, RW] {
        let entry = fixture.entry(frame, access | flags(memory));
        check.call("a mapping", update(fixture.entry_addr(table, 5), entry), Expect::Done);
        for level in 1..=4 {
            check.call("pin", fixture.pin(frame, level), INVALID);
        }
        for (&above, level) in live.iter().zip(["L4", "L3", "L2"]) {
            let link = update(fixture.entry_addr(above, 9), fixture.entry(frame, RW));
            check.call(level, link, INVALID);
        }
        let frames = [fixture.mfn(frame)];
        // SAFETY: it is refused.
        let gdt =
            unsafe { raw::call(Hypercall::SetGdt as u64, [frames.as_ptr() as u64, 16, 0, 0, 0]) };
        check.call("set_gdt", gdt, Expect::InRing3(EINVAL));
        let plain = update(fixture.entry_addr(frame, 3), 0);
        // The hypervisor would write through its own mapping, which is write-back.
        check.call("mmu_update of it", plain, INVALID);
        check.call("clearing", update(fixture.entry_addr(table, 5), 0), Expect::Done);
        // The hypervisor has flushed it since.
        check.call("pin at last", fixture.pin(frame, 1), Expect::Done);
        check.call("unpin", fixture.unpin(frame), Expect::Done);
    }
    fixture.restore(saved);
}
