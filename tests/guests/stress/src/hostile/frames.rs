//! Frames that don't belong to the guest.

use super::check::{Check, Expect};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EBUSY, EINVAL, EPERM, ESRCH};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::memory::{MACHPHYS_MFN_LIST, MAXIMUM_RAM_PAGE, MachphysMfnList};
use pinfold_abi::mmu::{MMU_MACHPHYS_UPDATE, MmuUpdate, MmuextCmd, MmuextOp};
use pinfold_guest::addr::{Mfn, Pfn};
use pinfold_guest::fixtures::{RO, RW, TableFixture, user_root};
use pinfold_guest::raw;

const INVALID: Expect = Expect::Refused(EINVAL);

fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: everything that this file asks for is refused.
    unsafe { raw::mmu_update(ptr, val) }
}

fn ext(cmd: MmuextCmd, arg1: u64, arg2: u64) -> i64 {
    // SAFETY: as above.
    unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
}

/// A machine frame of the hypervisor's own: the first of the machine-to-physical table.
fn hypervisor_frame() -> u64 {
    let mut mfn = 0u64;
    let mut list = MachphysMfnList {
        max_extents: 1,
        extent_start: &raw mut mfn as u64,
        ..MachphysMfnList::default()
    };
    let args = [MACHPHYS_MFN_LIST, &raw mut list as u64, 0, 0, 0];
    // SAFETY: the call writes one word to `mfn`.
    unsafe { raw::call(Hypercall::MemoryOp as u64, args) };
    // SAFETY: the hypervisor wrote it, which the compiler doesn't know.
    unsafe { (&raw const mfn).read_volatile() }
}

fn beyond_memory() -> u64 {
    let args = [MAXIMUM_RAM_PAGE, 0, 0, 0, 0];
    // SAFETY: the call has no argument.
    unsafe { raw::call(Hypercall::MemoryOp as u64, args) as u64 + 0x1000 }
}

pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let (theirs, beyond) = (hypervisor_frame(), beyond_memory());
    check.holds("the hypervisor's frame is known", theirs != 0);
    let leaf = fixture.frame();
    let live = fixture.chain(4, leaf);
    fixture.pin(live[0], 4);
    let l1 = fixture.entry_addr(live[3], 9);
    for flags in [RO, RW, RO | 4, RW | 4] {
        check.call(
            "map the hypervisor's frame",
            update(l1, Mfn(theirs).address() | flags),
            Expect::Refused(EBUSY),
        );
        let nothing = Expect::Differs {
            xen: 0,
            pinfold: EPERM.as_result(),
            why: "Xen's first domain may map device memory, which is whatever is not RAM",
        };
        check.call("map a frame beyond memory", update(l1, Mfn(beyond).address() | flags), nothing);
        // SAFETY: the fixture frame's entry in the direct map.
        let va =
            unsafe { raw::update_va_mapping(fixture.va(leaf), Mfn(theirs).address() | flags, 2) };
        check.call("map the hypervisor's frame by address", va, Expect::Refused(EBUSY));
    }
    for &table in live.iter().take(3) {
        let at = fixture.entry_addr(table, 9);
        check.call(
            "the hypervisor's frame as a table",
            update(at, Mfn(theirs).address() | RW),
            INVALID,
        );
        check.call(
            "a frame beyond memory as a table",
            update(at, Mfn(beyond).address() | RW),
            INVALID,
        );
    }
    for frame in [theirs, beyond, Mfn::from_address(u64::MAX).0, u64::MAX] {
        for cmd in [
            MmuextCmd::PinL1Table,
            MmuextCmd::PinL2Table,
            MmuextCmd::PinL3Table,
            MmuextCmd::PinL4Table,
            MmuextCmd::UnpinTable,
            MmuextCmd::NewBaseptr,
            MmuextCmd::ClearPage,
        ] {
            check.call("mmuext of a foreign frame", ext(cmd, frame, 0), INVALID);
        }
        // SAFETY: refused.
        let user = unsafe { user_root::load(frame) };
        check.call("a foreign frame as user root", user, INVALID);
        check.call("copy from it", ext(MmuextCmd::CopyPage, fixture.mfn(leaf), frame), INVALID);
        check.call("copy to it", ext(MmuextCmd::CopyPage, frame, fixture.mfn(leaf)), INVALID);
        check.call("write to it", update(Mfn(frame).address(), 0), INVALID);
        let m2p = update(Mfn(frame).address() | MMU_MACHPHYS_UPDATE, 0);
        check.call("set its M2P entry", m2p, INVALID);
        // SAFETY: refused.
        let descriptor = unsafe {
            raw::call(Hypercall::UpdateDescriptor as u64, [Mfn(frame).address(), 0, 0, 0, 0])
        };
        check.call("a descriptor in it", descriptor, Expect::InRing3(EINVAL));
        let frames = [frame];
        let args = [frames.as_ptr() as u64, 16, 0, 0, 0];
        // SAFETY: refused.
        let gdt = unsafe { raw::call(Hypercall::SetGdt as u64, args) };
        check.call("a GDT in it", gdt, Expect::InRing3(EINVAL));
    }
    foreign_domains(fixture, check, l1);
    fixture.restore(saved);
}

/// Names domains that don't exist.
fn foreign_domains(fixture: &TableFixture, check: &mut Check, l1: u64) {
    let request = [MmuUpdate { ptr: l1, val: 0 }];
    let arg1 = fixture.mfn(Pfn(0));
    let op = [MmuextOp { cmd: MmuextCmd::UnpinTable as u32, pad: 0, arg1, arg2: 0 }];
    for domain in [77u16, domid::INVALID, domid::IDLE] {
        // SAFETY: refused.
        let (result, _) = unsafe { raw::mmu_updates(&request, domain.into()) };
        check.call("mmu_update for an unknown domain", result, Expect::Refused(ESRCH));
        // SAFETY: refused.
        let (result, _) = unsafe { raw::mmuext_ops(&op, domain.into()) };
        check.call("mmuext_op for an unknown domain", result, Expect::Refused(ESRCH));
    }
    let tables_of = u64::from(domid::SELF) | 78 << 16;
    // SAFETY: refused.
    let (result, _) = unsafe { raw::mmu_updates(&request, tables_of) };
    check.call("mmu_update of an unknown domain's tables", result, Expect::Refused(ESRCH));
}
