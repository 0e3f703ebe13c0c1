//! The one that lends.

use super::{ACCEPT, BOARD, GIVEN, PORT, STEP, WORD, WRITTEN, go_to, wait, wait_for};
use crate::fixture::{GrantFixture, give_back, map_at, shared};
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::grant::{EntryFlags, Status};
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::event as events;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::hypercall::event;
use pinfold_guest::raw::grants as calls;

/// Lends to `peer`; `last`: the peer ends first.
pub(crate) fn run(fixture: &mut GrantFixture, peer: u16, last: bool, check: &mut Check) {
    let page = fixture.tables.lose();
    let board = fixture.tables.va(page);
    let Some(port) = check.ok("alloc_unbound", event::alloc_unbound(peer)) else { return };
    shared(board, PORT).store(port.0.into(), Ordering::SeqCst);
    shared(board, STEP).store(1, Ordering::SeqCst);
    let permit = EntryFlags::PERMIT_ACCESS;
    fixture.grant(BOARD, permit, peer, page);

    if !wait_for(board, 2, check) {
        return;
    }
    check.holds("the peer's event comes", wait(|| events::is_pending(port)));
    check.equal("and what it wrote", shared(board, WORD).load(Ordering::SeqCst), WRITTEN);
    let marks = EntryFlags::READING | EntryFlags::WRITING;
    check.equal("the entry is marked", fixture.flags(BOARD), permit | marks);
    lent(fixture, page, check);
    go_to(board, 3, port, check);

    if !wait_for(board, 4, check) {
        return;
    }
    give(fixture, peer, check);
    go_to(board, 5, port, check);
    if !wait_for(board, 6, check) {
        return;
    }
    if !last {
        check.equal("the board is mapped again", fixture.flags(BOARD), permit | marks);
        // With the page lent, and a port open.
        return;
    }
    let over = wait(|| fixture.flags(BOARD) == permit);
    check.holds("the peer's end takes the mark away", over);
    fixture.tables.clear(page);
    fixture.tables.seal(page);
    check.equal("and all that it held", fixture.tables.pin(page, 1), 0);
    check.equal("pin it, and back", fixture.tables.unpin(page), 0);
    check.equal("writable again", fixture.tables.unseal(page), 0);
}

/// What can't be done with a page that another domain has mapped writable.
fn lent(fixture: &GrantFixture, page: Pfn, check: &mut Check) {
    let board = fixture.tables.va(page);
    check.equal("unmap it", map_at(board, 0), 0);
    for level in 1..=4 {
        check.equal("it can't become a table", fixture.tables.pin(page, level), EINVAL.as_result());
    }
    let mfn = fixture.tables.mfn(page);
    let gone = give_back(mfn);
    check.equal("it can't be given back", gone, 0);
    check.equal("map it again", map_at(board, fixture.tables.entry(page, RW)), 0);
}

/// Gives a frame away.
fn give(fixture: &mut GrantFixture, peer: u16, check: &mut Check) {
    let page = fixture.tables.lose();
    let (place, mfn) = (fixture.tables.va(page), fixture.tables.mfn(page));
    shared(place, 0).store(GIVEN, Ordering::SeqCst);
    let bad = Status::BadPage as i16;
    check.equal("a page that is mapped", calls::transfer(mfn, peer, ACCEPT), bad);
    check.equal("unmap it", map_at(place, 0), 0);
    check.equal("transfer", calls::transfer(mfn, peer, ACCEPT), 0);
    check.equal("it is gone", map_at(place, mfn << 12 | RW) < 0, true);
    check.equal("only once", calls::transfer(mfn, peer, ACCEPT), Status::GeneralError as i16);
}
