//! Copies and transfers.

use crate::bench::{Bench, FIRST, map_at, read};
use pinfold_abi::domid;
use pinfold_abi::grant::{
    COPY_DEST_REFERENCE, COPY_SOURCE_REFERENCE, Copy, CopyPointer, EntryFlags, Status,
};
use pinfold_guest::addr::Pfn;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::raw::grants::{copy, transfer};

const PERMIT: EntryFlags = EntryFlags::PERMIT_ACCESS;
const MARK: u64 = 0x0102_0304_0506_0708;
/// References of this file.
const SOURCE: u32 = FIRST + 16;
const DEST: u32 = FIRST + 17;

fn own(bench: &Bench, page: Pfn, offset: u16) -> CopyPointer {
    CopyPointer { frame: bench.lab.mfn(page), domid: domid::SELF, offset, pad: 0 }
}

fn by(bench: &Bench, reference: u32, offset: u16) -> CopyPointer {
    CopyPointer { frame: reference.into(), domid: bench.own, offset, pad: 0 }
}

fn plain(source: CopyPointer, dest: CopyPointer, len: u16) -> Copy {
    Copy { source, dest, len, ..Copy::default() }
}

pub(crate) fn run(bench: &mut Bench, check: &mut Check) {
    copies(bench, check);
    refusals(bench, check);
    if !check.on_xen() {
        // Xen's first domain has no room for a page more.
        transfers(bench, check);
    }
}

fn copies(bench: &mut Bench, check: &mut Check) {
    let (from, to) = (bench.lab.frame(), bench.lab.frame());
    for index in 0..512 {
        bench.lab.set(from, index, MARK.wrapping_mul(index as u64 + 1));
    }
    check.equal("a whole page", copy(plain(own(bench, from, 0), own(bench, to, 0), 4096)), 0);
    let same = (0..512).all(|index| bench.lab.get(to, index) == bench.lab.get(from, index));
    check.holds("arrives whole", same);
    bench.lab.clear(to);
    bench.grant(SOURCE, PERMIT | EntryFlags::READ_ONLY, bench.own, from);
    bench.grant(DEST, PERMIT, bench.own, to);
    let asked = Copy {
        flags: COPY_SOURCE_REFERENCE | COPY_DEST_REFERENCE,
        ..plain(by(bench, SOURCE, 8), by(bench, DEST, 24), 16)
    };
    check.equal("a piece, both granted", copy(asked), 0);
    let words = [2, 3, 4, 5].map(|index| bench.lab.get(to, index));
    let expected = [0, MARK.wrapping_mul(2), MARK.wrapping_mul(3), 0];
    check.equal("arrives where it is to", words, expected);
    check.equal(
        "nothing stays marked",
        (bench.flags(SOURCE), bench.flags(DEST)),
        (PERMIT | EntryFlags::READ_ONLY, PERMIT),
    );
    check.equal("nothing at all", copy(plain(own(bench, from, 4096 - 1), own(bench, to, 0), 0)), 0);
    // Within one page, over itself.
    check.equal("over itself", copy(plain(own(bench, from, 0), own(bench, from, 8), 64)), 0);
}

fn refusals(bench: &mut Bench, check: &mut Check) {
    let (from, to) = (bench.lab.frame(), bench.lab.frame());
    let bad = Status::BadCopyArgument as i16;
    let (source, dest) = (own(bench, from, 0), own(bench, to, 0));
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
    check.equal("nobody's frame", copy(plain(others, dest, 8)), denied);
    let numbered = CopyPointer { domid: bench.own, ..source };
    check.equal("one's own, by number", copy(plain(numbered, dest, 8)), denied);
    let nobodys = Copy { flags: COPY_SOURCE_REFERENCE, ..plain(others, dest, 8) };
    check.equal("nobody's grant", copy(nobodys), Status::BadDomain as i16);
    bench.grant_frame(SOURCE, EntryFlags::empty(), bench.own, bench.lab.mfn(from));
    let asked = Copy { flags: COPY_SOURCE_REFERENCE, ..plain(by(bench, SOURCE, 0), dest, 8) };
    check.equal("what is not granted", copy(asked), Status::GeneralError as i16);
    bench.grant(DEST, PERMIT | EntryFlags::READ_ONLY, bench.own, to);
    let asked = Copy { flags: COPY_DEST_REFERENCE, ..plain(source, by(bench, DEST, 0), 8) };
    check.equal("to what is granted for reading", copy(asked), Status::GeneralError as i16);
    let beyond = CopyPointer { frame: u32::MAX.into(), ..by(bench, DEST, 0) };
    let asked = Copy { flags: COPY_DEST_REFERENCE, ..plain(source, beyond, 8) };
    check.equal("to no reference", copy(asked), Status::BadReference as i16);

    // A table is not written to by a copy.
    let table = bench.lab.frame();
    bench.lab.seal(table);
    check.equal("pin", bench.lab.pin(table, 1), 0);
    bench.lab.set(from, 0, bench.lab.entry(table, RW));
    let to_table = copy(plain(source, own(bench, table, 0), 8));
    check.equal("to a table", to_table, Status::GeneralError as i16);
    check.equal("it is as it was", bench.lab.get(table, 0), 0);
    check.equal("from a table", copy(plain(own(bench, table, 0), dest, 8)), 0);
    bench.lab.unpin(table);
    bench.lab.unseal(table);
}

/// A frame that goes to its own domain.
fn transfers(bench: &mut Bench, check: &mut Check) {
    const ENTRY: u32 = FIRST + 18;
    let page = bench.lab.lose();
    let (place, mfn) = (bench.lab.va(page), bench.lab.mfn(page));
    bench.lab.set(page, 0, MARK);
    let general = Status::GeneralError as i16;
    check.equal("a page in use", transfer(mfn, bench.own, ENTRY), general);
    bench.grant_frame(ENTRY, EntryFlags::ACCEPT_TRANSFER, bench.own, 0);
    check.equal("a mapped page", transfer(mfn, bench.own, ENTRY), Status::BadPage as i16);
    check.equal("the entry waits", bench.flags(ENTRY), EntryFlags::ACCEPT_TRANSFER);
    check.equal("unmap it", map_at(place, 0), 0);
    check.equal("to nobody", transfer(mfn, 77, ENTRY), Status::BadDomain as i16);
    check.equal("transfer", transfer(mfn, bench.own, ENTRY), 0);
    let done = EntryFlags::ACCEPT_TRANSFER
        | EntryFlags::TRANSFER_COMMITTED
        | EntryFlags::TRANSFER_COMPLETED;
    check.equal("the entry says so", (bench.flags(ENTRY), bench.frame(ENTRY)), (done, mfn));
    check.equal("only once", transfer(mfn, bench.own, ENTRY), general);
    check.equal("map it again", map_at(place, mfn << 12 | RW), 0);
    check.equal("it is as it was", read(place, 0), Some(MARK));
}
