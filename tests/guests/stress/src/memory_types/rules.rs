//! What may be mapped in which way, entry by entry.

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
    // SAFETY: what this file asks for concerns bench frames.
    unsafe { raw::mmu_update(ptr, val) }
}

/// What mixing ends in.
fn mixing(policy: Policy) -> Expect {
    match policy {
        Policy::Strict => INVALID,
        Policy::Report => Expect::Done,
    }
}

pub(super) fn run(
    mmu: &mut Mmu<Native>,
    lab: &mut TableFixture,
    check: &mut Check,
    policy: Policy,
) {
    for first in MemoryType::ALL {
        for second in MemoryType::ALL.into_iter().filter(|&second| second != first) {
            pair(mmu, lab, check, policy, [first, second]);
        }
    }
    own_entry(lab, check, policy);
    inside_a_table(lab, check, policy);
    stores(lab, check, policy);
    for memory in MemoryType::ALL.into_iter().skip(1) {
        uses_of_tables(lab, check, memory);
        uses_of_data(lab, check, memory);
    }
}

/// An L1 table, pinned, and a frame that is mapped nowhere.
fn bare(lab: &mut TableFixture, check: &mut Check) -> (Pfn, Pfn) {
    let (table, frame) = (lab.frame(), lab.frame());
    lab.seal(table);
    check.call("pin of an empty table", lab.pin(table, 1), Expect::Done);
    check.call("unmapping", lab.map(frame, 0), Expect::Done);
    (table, frame)
}

fn flags(memory: MemoryType) -> u64 {
    memory.flags().bits()
}

/// Two types meet in all three entries of a table: the first one twice, then the second.
fn pair(
    mmu: &mut Mmu<Native>,
    lab: &mut TableFixture,
    check: &mut Check,
    policy: Policy,
    types: [MemoryType; 2],
) {
    let saved = lab.save();
    let [first, second] = types.map(flags);
    let (table, frame) = bare(lab, check);
    let set = |index, entry| update(lab.entry_addr(table, index), entry);
    check.call("a first mapping", set(0, lab.entry(frame, RO | first)), Expect::Done);
    check.call("another of the type", set(1, lab.entry(frame, RW | first)), Expect::Done);
    for other in [RO | second, RW | second] {
        check.call("another type", set(2, lab.entry(frame, other)), mixing(policy));
        let present: &[u64] =
            if policy == Policy::Strict { &[first, first] } else { &[first, first, second] };
        check.holds("the others are named", found(mmu, frame, table) == present);
        check.call("clearing", set(2, 0), Expect::Done);
    }
    // One left is too many.
    check.call("clearing", set(0, 0), Expect::Done);
    check.call("with one left", set(2, lab.entry(frame, RO | second)), mixing(policy));
    check.call("clearing", set(2, 0), Expect::Done);
    check.call("clearing", set(1, 0), Expect::Done);
    check.call("with none left", set(2, lab.entry(frame, RW | second)), Expect::Done);
    check.call("the new type twice", set(0, lab.entry(frame, RO | second)), Expect::Done);
    check.call("clearing", set(0, 0), Expect::Done);
    check.call("clearing", set(2, 0), Expect::Done);
    lab.restore(saved);
}

/// The types of a frame's mappings, all of which must be in one table, by slot.
fn found(mmu: &mut Mmu<Native>, frame: Pfn, table: Pfn) -> Vec<u64> {
    let mut mappings: Vec<Mapping> = mmu.find_aliases(&[frame]).unwrap_or_default();
    let table = mmu.mfn(table).0;
    if mappings.iter().any(|mapping| mapping.table != table) {
        return Vec::new();
    }
    mappings.sort_unstable_by_key(|mapping| mapping.index);
    mappings.iter().map(|mapping| mapping.entry & MemoryType::FLAGS.bits()).collect()
}

/// The only mapping of a frame can't change its type by itself: until it is gone it is one.
fn own_entry(lab: &mut TableFixture, check: &mut Check, policy: Policy) {
    let saved = lab.save();
    let frame = lab.frame();
    lab.set(frame, 7, 0x1234);
    for memory in MemoryType::ALL.into_iter().skip(1) {
        check.call("in place", lab.map(frame, RW | flags(memory)), mixing(policy));
        check.call("unmapping", lab.map(frame, 0), Expect::Done);
        check.call("after it is gone", lab.map(frame, RW | flags(memory)), Expect::Done);
        check.holds("the contents stay", lab.get(frame, 7) == 0x1234);
        lab.set(frame, 7, 0x1234);
        check.call("unmapping", lab.map(frame, 0), Expect::Done);
        check.call("and back", lab.map(frame, RW), Expect::Done);
    }
    lab.restore(saved);
}

/// A table that disagrees with itself, or with what is mapped already.
fn inside_a_table(lab: &mut TableFixture, check: &mut Check, policy: Policy) {
    let saved = lab.save();
    let frame = lab.frame();
    let combining = flags(MemoryType::WriteCombining);
    lab.map(frame, 0);
    let table = lab.frame();
    lab.set(table, 3, lab.entry(frame, RO));
    lab.set(table, 300, lab.entry(frame, RW | combining));
    lab.seal(table);
    check.call("pin of a table in two minds", lab.pin(table, 1), mixing(policy));
    if policy == Policy::Report {
        check.call("unpin", lab.unpin(table), Expect::Done);
    }
    lab.unseal(table);
    lab.set(table, 3, lab.entry(frame, RO | combining));
    lab.seal(table);
    check.call("pin of a table in one mind", lab.pin(table, 1), Expect::Done);
    check.call("at its place otherwise", lab.map(frame, RO), mixing(policy));
    check.call("at its place alike", lab.map(frame, RO | combining), Expect::Done);
    check.call("unmapping", lab.map(frame, 0), Expect::Done);
    check.call("unpin", lab.unpin(table), Expect::Done);
    lab.restore(saved);
}

/// By stores to a live table, which the hypervisor carries out.
fn stores(lab: &mut TableFixture, check: &mut Check, policy: Policy) {
    let assist = [VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0];
    // SAFETY: concerns stores to tables only.
    let assisted = unsafe { raw::call(Hypercall::VmAssist as u64, assist) };
    check.call("vm_assist", assisted, Expect::Done);
    let saved = lab.save();
    let (table, frame) = bare(lab, check);
    let store = |index: u64, word| {
        // SAFETY: a bench table, in use by nobody.
        unsafe { catch::write(lab.va(table).0 + 8 * index, word) }
    };
    let uncached = flags(MemoryType::Uncached);
    check.holds("a first type", store(0, lab.entry(frame, RW | uncached)).is_ok());
    check.holds("the same again", store(1, lab.entry(frame, RO | uncached)).is_ok());
    let other = store(2, lab.entry(frame, RO));
    match policy {
        Policy::Strict => {
            check.trap("another", other, 14);
            check.holds("nothing is stored", lab.get(table, 2) == 0);
        }
        Policy::Report => check.holds("another is borne", other.is_ok()),
    }
    for index in 0..3 {
        check.holds("clearing", store(index, 0).is_ok());
    }
    check.holds("another, after all", store(2, lab.entry(frame, RO)).is_ok());
    check.holds("clearing", store(2, 0).is_ok());
    lab.restore(saved);
}

/// What the processor walks, or the hypervisor reads, is write-back: whatever the policy.
fn uses_of_tables(lab: &mut TableFixture, check: &mut Check, memory: MemoryType) {
    let saved = lab.save();
    let leaf = lab.frame();
    let live = lab.chain(4, leaf);
    check.call("pin of a plain tree", lab.pin(live[0], 4), Expect::Done);
    let window = lab.frame();
    for &table in &live {
        let entry = lab.entry(table, RO | flags(memory));
        check.call("a table at its place", lab.map(table, RO | flags(memory)), INVALID);
        check.call("in an L1", update(lab.entry_addr(live[3], 77), entry), INVALID);
        // SAFETY: a bench frame's place.
        let at = unsafe { raw::update_va_mapping(lab.va(window), entry, 0) };
        check.call("at another's place", at, INVALID);
    }
    for &table in &live[..3] {
        let plain = lab.get(table, 0) & !EntryFlags::ACCESSED.bits();
        let bits = memory.flags().intersection(EntryFlags::WRITE_THROUGH | EntryFlags::NO_CACHE);
        if !bits.is_empty() {
            let entry = update(lab.entry_addr(table, 0), plain | bits.bits());
            check.call("an upper entry", entry, INVALID);
        }
    }
    lab.restore(saved);
}

/// What is mapped past the caches is no table, however often it is asked for.
fn uses_of_data(lab: &mut TableFixture, check: &mut Check, memory: MemoryType) {
    let saved = lab.save();
    let (table, frame) = bare(lab, check);
    let leaf = lab.frame();
    let live = lab.chain(4, leaf);
    check.call("pin of a plain tree", lab.pin(live[0], 4), Expect::Done);
    for access in [RO, RW] {
        let entry = lab.entry(frame, access | flags(memory));
        check.call("a mapping", update(lab.entry_addr(table, 5), entry), Expect::Done);
        for level in 1..=4 {
            check.call("pin", lab.pin(frame, level), INVALID);
        }
        for (&above, level) in live.iter().zip(["L4", "L3", "L2"]) {
            let link = update(lab.entry_addr(above, 9), lab.entry(frame, RW));
            check.call(level, link, INVALID);
        }
        let frames = [lab.mfn(frame)];
        // SAFETY: it is refused.
        let gdt =
            unsafe { raw::call(Hypercall::SetGdt as u64, [frames.as_ptr() as u64, 16, 0, 0, 0]) };
        check.call("set_gdt", gdt, INVALID);
        let plain = update(lab.entry_addr(frame, 3), 0);
        // The hypervisor would write through its own view, and mixes nothing on its own account.
        check.call("mmu_update of it", plain, INVALID);
        check.call("clearing", update(lab.entry_addr(table, 5), 0), Expect::Done);
        // Now it was flushed of.
        check.call("pin at last", lab.pin(frame, 1), Expect::Done);
        check.call("unpin", lab.unpin(frame), Expect::Done);
    }
    lab.restore(saved);
}
