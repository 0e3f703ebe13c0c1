//! The domain that maps what the other one grants.

use super::{ACCEPT, MAILBOX, PORT, STEP, TRANSFERRED, WORD, WRITTEN, set_step, wait, wait_for};
use crate::fixture::{GrantFixture, MAP_RO, MAP_RW, give_back, map_at, read, shared, write};
use core::sync::atomic::Ordering;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EINVAL, ESRCH};
use pinfold_abi::grant::{COPY_SOURCE_REFERENCE, Copy, CopyPointer, EntryFlags, MapFlags, Status};
use pinfold_abi::mmu::{ENTRY_ADDRESS, MmuextCmd};
use pinfold_guest::addr::{Mfn, PAGE_SIZE, Vaddr};
use pinfold_guest::entry::event as events;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::hypercall::event::{self, Port};
use pinfold_guest::raw;
use pinfold_guest::raw::grants::{Map, copy, map, query, unmap};

/// Runs the borrower; `last`: the peer ends first.
pub(crate) fn run(fixture: &mut GrantFixture, peer: u16, last: bool, check: &mut Check) {
    let window = fixture.window();
    let asked = |flags: MapFlags| Map { address: window.0, flags, dom: peer, reference: MAILBOX };
    let Some(handle) = first_map(asked(MAP_RW), check) else { return };
    let theirs = Port(shared(window, PORT).load(Ordering::SeqCst) as u32);
    let Some(port) = check.ok("bind_interdomain", event::bind_interdomain(peer, theirs)) else {
        return;
    };
    events::clear_pending(port);
    shared(window, WORD).store(WRITTEN, Ordering::SeqCst);
    set_step(window, 2, port, check);

    if !wait_for(window, 3, check) {
        return;
    }
    check.holds("the peer's event comes", wait(|| events::is_pending(port)));
    try_ownership(fixture, window, check);
    check.equal("unmap", unmap(handle, window.0), 0);
    check.equal("it is unmapped", read(window, STEP), None);
    reading(fixture, asked(MAP_RO), check);
    make_room(fixture, check);
    fixture.grant_frame(ACCEPT, EntryFlags::ACCEPT_TRANSFER, peer, 0);
    let Ok((handle, machine)) = map(asked(MAP_RW)) else {
        check.holds("map it once more", false);
        return;
    };
    set_step(window, 4, port, check);
    if !wait_for(window, 5, check) {
        return;
    }
    given(fixture, check);
    set_step(window, 6, port, check);
    if !last {
        // Ends with the mailbox mapped.
        return;
    }
    let gone = Err(Status::BadDomain as i16);
    check.holds("the peer's end", wait(|| query(peer) == gone));
    outlived(fixture, window, machine, check);
    check.equal("unmap", unmap(handle, window.0), 0);
    check.equal("it is unmapped", read(window, STEP), None);
    check.equal("map it", map(asked(MAP_RW)).map(drop), gone.map(drop));
    check.refused("connect", event::bind_interdomain(peer, theirs), ESRCH);
}

/// Maps the mailbox as soon as it is granted.
fn first_map(asked: Map, check: &mut Check) -> Option<u32> {
    let mut handle = None;
    wait(|| {
        handle = map(asked).ok();
        handle.is_some()
    });
    check.holds("the mailbox is granted", handle.is_some());
    handle.map(|(handle, _)| handle)
}

/// Tries what a borrower may not do with a page that belongs to another domain.
fn try_ownership(fixture: &mut GrantFixture, window: Vaddr, check: &mut Check) {
    let (entry_addr, entry) = fixture.leaf(window);
    let other = fixture.window();
    check.holds("map it a second time by itself", map_at(other, entry) < 0);
    // SAFETY: an address of the fixture.
    let made = unsafe { raw::mmu_update(entry_addr, entry & !2) };
    check.holds("change its entry", made < 0);
    let mfn = Mfn::from_address(entry & ENTRY_ADDRESS).0;
    for cmd in 0..4 {
        // SAFETY: refused, or this test has failed.
        let pinned = unsafe { raw::mmuext(cmd, mfn, 0) };
        check.equal("make it a table", pinned, EINVAL.as_result());
    }
    let gone = give_back(mfn);
    check.equal("give it back as its own", gone, 0);
}

/// Maps the mailbox read-only, and copies it.
fn reading(fixture: &mut GrantFixture, asked: Map, check: &mut Check) {
    let window = Vaddr(asked.address);
    let Ok((handle, _)) = map(asked) else {
        check.holds("map for reading", false);
        return;
    };
    check.equal("read it", read(window, WORD), Some(WRITTEN));
    check.holds("not write it", !write(window, WORD, 0));
    check.equal("unmap it", unmap(handle, window.0), 0);
    let page = fixture.tables.frame();
    let source = CopyPointer { frame: MAILBOX.into(), domid: asked.dom, offset: 0, pad: 0 };
    let dest =
        CopyPointer { frame: fixture.tables.mfn(page), domid: domid::SELF, offset: 0, pad: 0 };
    let whole = Copy {
        source,
        dest,
        len: PAGE_SIZE as u16,
        flags: COPY_SOURCE_REFERENCE,
        ..Copy::default()
    };
    check.equal("copy it", copy(whole), 0);
    check.equal("the copy is right", fixture.tables.get(page, WORD as usize), WRITTEN);
    let back = Copy { source: dest, dest: source, flags: 0, ..whole };
    check.equal("write to it by its number", copy(back), Status::PermissionDenied as i16);
}

/// Gives a frame back so that another can come: a domain has no more frames than it was given.
fn make_room(fixture: &mut GrantFixture, check: &mut Check) {
    let page = fixture.tables.lose();
    let mfn = fixture.tables.mfn(page);
    check.equal("unmap a page", map_at(fixture.tables.va(page), 0), 0);
    let gone = give_back(mfn);
    check.equal("give a page back", gone, 1);
}

/// Uses the frame that was transferred.
fn given(fixture: &mut GrantFixture, check: &mut Check) {
    let done = EntryFlags::ACCEPT_TRANSFER
        | EntryFlags::TRANSFER_COMMITTED
        | EntryFlags::TRANSFER_COMPLETED;
    check.equal("a frame came", fixture.flags(ACCEPT), done);
    let window = fixture.window();
    let mfn = fixture.frame(ACCEPT);
    check.equal("map it", map_at(window, Mfn(mfn).address() | RW), 0);
    check.equal("its contents came with it", read(window, 0), Some(TRANSFERRED));
    check.holds("it can be written", write(window, 1, 0));
    check.equal("unmap it", map_at(window, 0), 0);
    // SAFETY: a frame that Rust doesn't use.
    let pinned = unsafe { raw::mmuext(MmuextCmd::PinL1Table as u32, mfn, 0) };
    check.holds("it can't be pinned with these contents", pinned < 0);
    check.equal("map it to clear it", map_at(window, Mfn(mfn).address() | RW), 0);
    for index in 0..512 {
        write(window, index, 0);
    }
    check.equal("unmap it again", map_at(window, 0), 0);
    // SAFETY: as above.
    let pinned = unsafe { raw::mmuext(MmuextCmd::PinL1Table as u32, mfn, 0) };
    check.equal("pin it", pinned, 0);
    // SAFETY: as above.
    check.equal("unpin it", unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, mfn, 0) }, 0);
}

/// Uses a page of a domain that has ended.
fn outlived(fixture: &mut GrantFixture, window: Vaddr, machine: u64, check: &mut Check) {
    check.equal("the mailbox is still mapped", read(window, STEP), Some(6));
    check.holds("it can be written", write(window, WORD, !WRITTEN));
    check.equal("it can be read", read(window, WORD), Some(!WRITTEN));
    let other = fixture.window();
    check.holds("it can't be mapped by its frame number", map_at(other, machine | RW) < 0);
}
