//! The domain that grants.

use super::{ACCEPT, MAILBOX, PORT, STEP, TRANSFERRED, WORD, WRITTEN, set_step, wait, wait_for};
use crate::fixture::{GrantFixture, give_back, map_at, shared};
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::grant::{EntryFlags, Status};
use pinfold_guest::addr::{Mfn, Pfn};
use pinfold_guest::entry::event as events;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::hypercall::event;
use pinfold_guest::raw::grants as calls;

/// Runs the granter; `last`: the peer ends first.
pub(crate) fn run(fixture: &mut GrantFixture, peer: u16, last: bool, check: &mut Check) {
    let page = fixture.tables.lose();
    let mailbox = fixture.tables.va(page);
    let Some(port) = check.ok("alloc_unbound", event::alloc_unbound(peer)) else { return };
    shared(mailbox, PORT).store(port.0.into(), Ordering::SeqCst);
    shared(mailbox, STEP).store(1, Ordering::SeqCst);
    let permit = EntryFlags::PERMIT_ACCESS;
    fixture.grant(MAILBOX, permit, peer, page);

    if !wait_for(mailbox, 2, check) {
        return;
    }
    check.holds("the peer's event comes", wait(|| events::is_pending(port)));
    check.equal(
        "the peer's word can be read",
        shared(mailbox, WORD).load(Ordering::SeqCst),
        WRITTEN,
    );
    let marks = EntryFlags::READING | EntryFlags::WRITING;
    check.equal("the entry is in use", fixture.flags(MAILBOX), permit | marks);
    try_while_granted(fixture, page, check);
    set_step(mailbox, 3, port, check);

    if !wait_for(mailbox, 4, check) {
        return;
    }
    give(fixture, peer, check);
    set_step(mailbox, 5, port, check);
    if !wait_for(mailbox, 6, check) {
        return;
    }
    if !last {
        check.equal("the mailbox is mapped again", fixture.flags(MAILBOX), permit | marks);
        // Ends while the page is granted and a port is open.
        return;
    }
    let over = wait(|| fixture.flags(MAILBOX) == permit);
    check.holds("after the peer's end the entry is not in use", over);
    fixture.tables.clear(page);
    fixture.tables.seal(page);
    check.equal("no reference is left", fixture.tables.pin(page, 1), 0);
    check.equal("unpin", fixture.tables.unpin(page), 0);
    check.equal("writable again", fixture.tables.unseal(page), 0);
}

/// Tries what must not be done with a page that another domain has mapped writable.
fn try_while_granted(fixture: &GrantFixture, page: Pfn, check: &mut Check) {
    let mailbox = fixture.tables.va(page);
    check.equal("unmap it", map_at(mailbox, 0), 0);
    for level in 1..=4 {
        check.equal("it can't become a table", fixture.tables.pin(page, level), EINVAL.as_result());
    }
    let mfn = fixture.tables.mfn(page);
    let gone = give_back(mfn);
    check.equal("it can't be given back", gone, 0);
    check.equal("map it again", map_at(mailbox, fixture.tables.entry(page, RW)), 0);
}

/// Transfers a frame.
fn give(fixture: &mut GrantFixture, peer: u16, check: &mut Check) {
    let page = fixture.tables.lose();
    let (place, mfn) = (fixture.tables.va(page), fixture.tables.mfn(page));
    shared(place, 0).store(TRANSFERRED, Ordering::SeqCst);
    let bad = Status::BadPage as i16;
    check.equal("a page that is mapped", calls::transfer(mfn, peer, ACCEPT), bad);
    check.equal("unmap it", map_at(place, 0), 0);
    check.equal("transfer", calls::transfer(mfn, peer, ACCEPT), 0);
    check.equal("it belongs to another domain", map_at(place, Mfn(mfn).address() | RW) < 0, true);
    check.equal("only once", calls::transfer(mfn, peer, ACCEPT), Status::GeneralError as i16);
}
