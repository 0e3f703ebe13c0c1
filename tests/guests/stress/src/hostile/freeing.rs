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

/// The number of frames given back, out of one.
fn give_back(fixture: &TableFixture, pfn: Pfn) -> i64 {
    let frames = [fixture.mfn(pfn)];
    let mut reservation = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: 1,
        domid: domid::SELF,
        ..Reservation::default()
    };
    let args = [DECREASE_RESERVATION, &raw mut reservation as u64, 0, 0, 0];
    // SAFETY: the frame is the fixture's, and nobody uses it afterwards.
    unsafe { raw::call(Hypercall::MemoryOp as u64, args) }
}

/// The bench does not get back what is tried on here.
pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let in_use = Expect::Differs {
        xen: 1,
        pinfold: 0,
        why: "Xen takes the frame as soon as its last reference goes, Pinfold not before",
    };
    let (table, mapped, free) = (fixture.lose(), fixture.lose(), fixture.lose());
    fixture.seal(table);
    check.call("a table", fixture.pin(table, 1), Expect::Done);
    check.call("a live table given back", give_back(fixture, table), in_use);
    check.call("it is still a table", fixture.unseal(table), Expect::Refused(EBUSY));
    check.call("and can be unpinned", fixture.unpin(table), Expect::Done);

    check.call("a mapped frame given back", give_back(fixture, mapped), in_use);
    fixture.set(mapped, 7, 0x5a5a);
    check.holds("it is still there", fixture.get(mapped, 7) == 0x5a5a);

    // SAFETY: a fixture frame's place.
    let unmapped = unsafe { raw::update_va_mapping(fixture.va(free), 0, UVMF_INVLPG) };
    check.call("a frame unmapped", unmapped, Expect::Done);
    check.holds("it can be given back", give_back(fixture, free) == 1);
    check.call("and is not the guest's any more", fixture.unseal(free), Expect::Refused(EBUSY));
    check.holds("nor can be given back twice", give_back(fixture, free) == 0);
}
