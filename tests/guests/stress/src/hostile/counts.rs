//! Bad pointers and counts, in every call that takes a list.

use super::check::{Check, Expect};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EFAULT, EINVAL, ENOSYS};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};
use pinfold_abi::mmu::{MmuUpdate, UVMF_INVLPG};
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::{RW, TableFixture};
use pinfold_guest::raw;

const FAULT: Expect = Expect::Refused(EFAULT);
/// Of calls that only kernels in ring 3 have.
const RING3_FAULT: Expect = Expect::InRing3(EFAULT);

/// Addresses that no guest maps: unmapped, in the hypervisor's hole and at its edges, not
/// canonical, at the end of the address space.
const NOWHERE: [u64; 8] = [
    0,
    0x1000,
    HYPERVISOR_START,
    HYPERVISOR_START + 0x1000,
    HYPERVISOR_END - 8,
    0x0123_4567_89ab_cde0,
    0x0000_8000_0000_0000,
    u64::MAX - 7,
];

fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: what this file asks for is refused, or affects fixture frames only.
    unsafe { raw::call(op as u64, args) }
}

pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let own = u64::from(domid::SELF);
    for at in NOWHERE {
        check.call("mmu_update list", call(Hypercall::MmuUpdate, [at, 1, 0, own, 0]), FAULT);
        check.call("mmuext_op list", call(Hypercall::MmuextOp, [at, 1, 0, own, 0]), FAULT);
        check.call("multicall list", call(Hypercall::Multicall, [at, 1, 0, 0, 0]), FAULT);
        check.call("set_gdt list", call(Hypercall::SetGdt, [at, 16, 0, 0, 0]), RING3_FAULT);
        check.call("memory_op argument", call(Hypercall::MemoryOp, [3, at, 0, 0, 0]), FAULT);
        // This call returns how many extents were done: none.
        let freed = call(Hypercall::MemoryOp, [1, at, 0, 0, 0]);
        check.holds("memory_op frees nothing", freed <= 0);
        check.call("shutdown argument", call(Hypercall::SchedOp, [2, at, 0, 0, 0]), FAULT);
        check.call("console text", call(Hypercall::ConsoleIo, [0, 8, at, 0, 0]), FAULT);
        if at != 0 {
            // A null pointer is a valid request: it does nothing.
            check.call("trap table", call(Hypercall::SetTrapTable, [at, 0, 0, 0, 0]), RING3_FAULT);
            let text = call(Hypercall::XenVersion, [1, at, 0, 0, 0]);
            check.call("version text", text, FAULT);
        }
    }
    lists_that_run_out(fixture, check);
    addresses(fixture, check);
    updates(fixture, check);
}

/// Lists whose first part only is mapped: that part is done, the rest is not.
fn lists_that_run_out(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(2, leaf);
    fixture.pin(live[0], 2);
    // Two frames with adjacent addresses, of which the second is unmapped.
    let (mut list, mut hole) = (fixture.frame(), fixture.frame());
    while fixture.left() > 0 && fixture.va(hole) != fixture.va(list).page(1) {
        (list, hole) = (hole, fixture.frame());
    }
    check.holds("two adjacent pages", fixture.va(hole) == fixture.va(list).page(1));
    fixture.set(list, 510, fixture.entry_addr(live[1], 5));
    fixture.set(list, 511, fixture.entry(leaf, RW));
    // SAFETY: the fixture frame's entry in the direct map.
    let gone = unsafe { raw::update_va_mapping(fixture.va(hole), 0, UVMF_INVLPG) };
    check.call("unmap a page", gone, Expect::Done);
    let mut done = 0u32;
    let at = fixture.va(list).0 + 510 * 8;
    let args = [at, 2, &raw mut done as u64, domid::SELF.into(), 0];
    check.call("a list that runs out", call(Hypercall::MmuUpdate, args), FAULT);
    // SAFETY: the hypervisor wrote it, which the compiler doesn't know.
    check.holds("its first entry is done", unsafe { (&raw const done).read_volatile() } == 1);
    check.holds("it stays", fixture.get(live[1], 5) != 0);
    fixture.restore(saved);
}

/// Calls `update_va_mapping` at addresses that don't belong to the guest.
fn addresses(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let frame = fixture.frame();
    let entry = fixture.entry(frame, RW);
    for at in NOWHERE {
        for val in [0, entry] {
            // SAFETY: refused.
            let result = unsafe { raw::update_va_mapping(Vaddr(at), val, UVMF_INVLPG) };
            check.call("update_va_mapping of a bad address", result, Expect::Refused(EINVAL));
        }
    }
    // SAFETY: maps a fixture frame as it is; only the mask of CPUs has a bad address.
    let mask = unsafe { raw::update_va_mapping(fixture.va(frame), entry, 0x1000 | UVMF_INVLPG) };
    check.call("a flush mask at a bad address", mask, FAULT);
    fixture.restore(saved);
}

/// Calls `mmu_update` with misaligned pointers and an empty list.
fn updates(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let leaf = fixture.frame();
    let live = fixture.chain(2, leaf);
    fixture.pin(live[0], 2);
    let at = fixture.entry_addr(live[1], 5);
    for low in 4..8 {
        let request = [MmuUpdate { ptr: at | low, val: 0 }];
        // SAFETY: refused.
        let (result, done) = unsafe { raw::mmu_updates(&request, domid::SELF.into()) };
        check.call("a misaligned entry", result, Expect::Refused(ENOSYS));
        check.holds("nothing is done", done == 0);
    }
    let none: [MmuUpdate; 0] = [];
    // SAFETY: an empty list.
    let (result, done) = unsafe { raw::mmu_updates(&none, domid::SELF.into()) };
    check.call("an empty list", result, Expect::Done);
    check.holds("nothing of it is done", done == 0);
    fixture.restore(saved);
}
