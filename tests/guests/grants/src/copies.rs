//! Copies and transfers.

use crate::fixture::{FIRST, GrantFixture, map_at, read};
use pinfold_abi::domid;
use pinfold_abi::grant::{
    COPY_DEST_REFERENCE, COPY_SOURCE_REFERENCE, Copy, CopyPointer, EntryFlags, Status,
};
use pinfold_guest::addr::{Mfn, PAGE_SIZE, Pfn};
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::raw::grants::{copy, transfer};

const PERMIT: EntryFlags = EntryFlags::PERMIT_ACCESS;
const MARK: u64 = 0x0102_0304_0506_0708;
/// References that this file uses.
const SOURCE: u32 = FIRST + 16;
const DEST: u32 = FIRST + 17;

fn own(fixture: &GrantFixture, page: Pfn, offset: u16) -> CopyPointer {
    CopyPointer { frame: fixture.tables.mfn(page), domid: domid::SELF, offset, pad: 0 }
}

fn by(fixture: &GrantFixture, reference: u32, offset: u16) -> CopyPointer {
    CopyPointer { frame: reference.into(), domid: fixture.own, offset, pad: 0 }
}

fn plain(source: CopyPointer, dest: CopyPointer, len: u16) -> Copy {
    Copy { source, dest, len, ..Copy::default() }
}

pub(crate) fn run(fixture: &mut GrantFixture, check: &mut Check) {
    copies(fixture, check);
    refusals(fixture, check);
    if !check.on_xen() {
        // Xen's first domain can't take another page.
        transfers(fixture, check);
    }
}

fn copies(fixture: &mut GrantFixture, check: &mut Check) {
    let (from, to) = (fixture.tables.frame(), fixture.tables.frame());
    for index in 0..512 {
        fixture.tables.set(from, index, MARK.wrapping_mul(index as u64 + 1));
    }
    check.equal(
        "a whole page",
        copy(plain(own(fixture, from, 0), own(fixture, to, 0), PAGE_SIZE as u16)),
        0,
    );
    let same =
        (0..512).all(|index| fixture.tables.get(to, index) == fixture.tables.get(from, index));
    check.holds("the whole page is copied", same);
    fixture.tables.clear(to);
    fixture.grant(SOURCE, PERMIT | EntryFlags::READ_ONLY, fixture.own, from);
    fixture.grant(DEST, PERMIT, fixture.own, to);
    let asked = Copy {
        flags: COPY_SOURCE_REFERENCE | COPY_DEST_REFERENCE,
        ..plain(by(fixture, SOURCE, 8), by(fixture, DEST, 24), 16)
    };
    check.equal("a piece, both granted", copy(asked), 0);
    let words = [2, 3, 4, 5].map(|index| fixture.tables.get(to, index));
    let expected = [0, MARK.wrapping_mul(2), MARK.wrapping_mul(3), 0];
    check.equal("it is copied to the right words", words, expected);
    check.equal(
        "no entry stays in use",
        (fixture.flags(SOURCE), fixture.flags(DEST)),
        (PERMIT | EntryFlags::READ_ONLY, PERMIT),
    );
    check.equal(
        "no bytes",
        copy(plain(own(fixture, from, PAGE_SIZE as u16 - 1), own(fixture, to, 0), 0)),
        0,
    );
    // Within one page, overlapping.
    check.equal(
        "an overlapping copy",
        copy(plain(own(fixture, from, 0), own(fixture, from, 8), 64)),
        0,
    );
}

fn refusals(fixture: &mut GrantFixture, check: &mut Check) {
    let (from, to) = (fixture.tables.frame(), fixture.tables.frame());
    let bad = Status::BadCopyArgument as i16;
    let (source, dest) = (own(fixture, from, 0), own(fixture, to, 0));
    for (what, source_at, dest_at, len) in [
        ("beyond the source", 4090, 0, 7),
        ("beyond the destination", 0, 4090, 7),
        ("more than a page", 0, 0, 4097),
        ("far beyond", 0xffff, 0xffff, 0xffff),
    ] {
        let source = CopyPointer { offset: source_at, ..source };
        let dest = CopyPointer { offset: dest_at, ..dest };
        check.equal(what, copy(plain(source, dest, len)), bad);
    }
    let denied = Status::PermissionDenied as i16;
    let others = CopyPointer { domid: 77, ..source };
    check.equal("a frame of another domain", copy(plain(others, dest, 8)), denied);
    let numbered = CopyPointer { domid: fixture.own, ..source };
    check.equal(
        "a frame of its own, by the domain's number",
        copy(plain(numbered, dest, 8)),
        denied,
    );
    let unknown = Copy { flags: COPY_SOURCE_REFERENCE, ..plain(others, dest, 8) };
    check.equal("a grant of an unknown domain", copy(unknown), Status::BadDomain as i16);
    fixture.grant_frame(SOURCE, EntryFlags::empty(), fixture.own, fixture.tables.mfn(from));
    let asked = Copy { flags: COPY_SOURCE_REFERENCE, ..plain(by(fixture, SOURCE, 0), dest, 8) };
    check.equal("from an entry that grants nothing", copy(asked), Status::GeneralError as i16);
    fixture.grant(DEST, PERMIT | EntryFlags::READ_ONLY, fixture.own, to);
    let asked = Copy { flags: COPY_DEST_REFERENCE, ..plain(source, by(fixture, DEST, 0), 8) };
    check.equal("to a read-only grant", copy(asked), Status::GeneralError as i16);
    let beyond = CopyPointer { frame: u32::MAX.into(), ..by(fixture, DEST, 0) };
    let asked = Copy { flags: COPY_DEST_REFERENCE, ..plain(source, beyond, 8) };
    check.equal("to an unknown reference", copy(asked), Status::BadReference as i16);

    // A copy must not write to a page table.
    let table = fixture.tables.frame();
    fixture.tables.seal(table);
    check.equal("pin", fixture.tables.pin(table, 1), 0);
    fixture.tables.set(from, 0, fixture.tables.entry(table, RW));
    let to_table = copy(plain(source, own(fixture, table, 0), 8));
    check.equal("to a table", to_table, Status::GeneralError as i16);
    check.equal("it is unchanged", fixture.tables.get(table, 0), 0);
    check.equal("from a table", copy(plain(own(fixture, table, 0), dest, 8)), 0);
    fixture.tables.unpin(table);
    fixture.tables.unseal(table);
}

/// Transfers a frame to the domain itself.
fn transfers(fixture: &mut GrantFixture, check: &mut Check) {
    const ENTRY: u32 = FIRST + 18;
    let page = fixture.tables.lose();
    let (place, mfn) = (fixture.tables.va(page), fixture.tables.mfn(page));
    fixture.tables.set(page, 0, MARK);
    let general = Status::GeneralError as i16;
    check.equal("a page table", transfer(mfn, fixture.own, ENTRY), general);
    fixture.grant_frame(ENTRY, EntryFlags::ACCEPT_TRANSFER, fixture.own, 0);
    check.equal("a mapped page", transfer(mfn, fixture.own, ENTRY), Status::BadPage as i16);
    check.equal(
        "the entry still waits for a frame",
        fixture.flags(ENTRY),
        EntryFlags::ACCEPT_TRANSFER,
    );
    check.equal("unmap it", map_at(place, 0), 0);
    check.equal("to an unknown domain", transfer(mfn, 77, ENTRY), Status::BadDomain as i16);
    check.equal("transfer", transfer(mfn, fixture.own, ENTRY), 0);
    let done = EntryFlags::ACCEPT_TRANSFER
        | EntryFlags::TRANSFER_COMMITTED
        | EntryFlags::TRANSFER_COMPLETED;
    check.equal(
        "the entry has the frame",
        (fixture.flags(ENTRY), fixture.frame(ENTRY)),
        (done, mfn),
    );
    check.equal("only once", transfer(mfn, fixture.own, ENTRY), general);
    check.equal("map it again", map_at(place, Mfn(mfn).address() | RW), 0);
    check.equal("its contents stay", read(place, 0), Some(MARK));
}
