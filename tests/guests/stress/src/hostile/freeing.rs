//! Frames given back to the hypervisor while they are in use.

use super::check::{Check, Expect};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::EBUSY;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::memory::{DECREASE_RESERVATION, Reservation};
use pinfold_abi::mmu::UVMF_INVLPG;
use pinfold_guest::addr::Pfn;
use pinfold_guest::fixtures::TableFixture;
use pinfold_guest::raw;

/// Gives one frame back. Returns how many the hypervisor took.
fn give_back(fixture: &TableFixture, pfn: Pfn) -> i64 {
    let frames = [fixture.mfn(pfn)];
    let mut reservation = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: 1,
        domid: domid::SELF,
        ..Reservation::default()
    };
    let args = [DECREASE_RESERVATION, &raw mut reservation as u64, 0, 0, 0];
    // SAFETY: the frame is the fixture's, and is not used afterwards.
    unsafe { raw::call(Hypercall::MemoryOp as u64, args) }
}

/// Uses frames that the fixture doesn't get back.
pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let in_use = Expect::Differs {
        xen: 1,
        pinfold: 0,
        why: "Xen takes the frame once its last reference is dropped, Pinfold refuses",
    };
    let (table, mapped, free) = (fixture.lose(), fixture.lose(), fixture.lose());
    fixture.seal(table);
    check.call("a table", fixture.pin(table, 1), Expect::Done);
    check.call("give back a live table", give_back(fixture, table), in_use);
    check.call("it is still a table", fixture.unseal(table), Expect::Refused(EBUSY));
    check.call("and can be unpinned", fixture.unpin(table), Expect::Done);

    check.call("give back a mapped frame", give_back(fixture, mapped), in_use);
    fixture.set(mapped, 7, 0x5a5a);
    check.holds("it keeps its contents", fixture.get(mapped, 7) == 0x5a5a);

    // SAFETY: the fixture frame's entry in the direct map.
    let unmapped = unsafe { raw::update_va_mapping(fixture.va(free), 0, UVMF_INVLPG) };
    check.call("unmap a frame", unmapped, Expect::Done);
    check.holds("it can be given back", give_back(fixture, free) == 1);
    check.call("it no longer belongs to the guest", fixture.unseal(free), Expect::Refused(EBUSY));
    check.holds("it can't be given back twice", give_back(fixture, free) == 0);
}
