//! Grants of a domain to itself: each answer of `grant_table_op` except copies and transfers.

use crate::fixture::{
    FIRST, GrantFixture, MAP_RO, MAP_RW, WRITABLE_ENTRY, give_back, map_at, read, write,
};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EFAULT, EINVAL, ENOSYS, ESRCH};
use pinfold_abi::grant::{
    DUMP_TABLE, ENTRIES_PER_FRAME, EntryFlags, GET_STATUS_FRAMES, GetStatusFrames, MAP_GRANT_REF,
    MapFlags, MapGrantRef, QUERY_SIZE, SET_VERSION, SETUP_TABLE, SetupTable, Status,
};
use pinfold_abi::layout::{HYPERVISOR_START, PAGE_SIZE};
use pinfold_guest::addr::{Mfn, Pfn, Vaddr};
use pinfold_guest::fixtures::{Check, RO, RW};
use pinfold_guest::raw::grants::{self as calls, Map, map, unmap};

const PERMIT: EntryFlags = EntryFlags::PERMIT_ACCESS;
const IN_USE: EntryFlags = EntryFlags::READING.union(EntryFlags::WRITING);
const BAD: Result<(u32, u64), i16> = Err(Status::GeneralError as i16);
/// No domain has this number.
const UNKNOWN_DOMAIN: u16 = 77;
const MARK: u64 = 0x1122_3344_5566_7788;

pub(crate) fn run(fixture: &mut GrantFixture, check: &mut Check) {
    table(fixture, check);
    mapping(fixture, check);
    read_only(fixture, check);
    refusals(fixture, check);
    by_entry(fixture, check);
    tables(fixture, check);
    overwritten(fixture, check);
    replaced(fixture, check);
    swapped(fixture, check);
    many(fixture, check);
    if !check.on_xen() {
        // On Xen a domain can give back such frames, and the first domain can grant them.
        shared_frames(fixture, check);
    }
}

/// Asks for the table's size and version, and makes calls that are refused as a whole.
fn table(fixture: &GrantFixture, check: &mut Check) {
    let size = calls::query(domid::SELF);
    check.holds("query_size", size.is_ok_and(|(now, most)| now >= 1 && most >= now));
    check.equal("query_size by number", calls::query(fixture.own), size);
    let unknown = Status::BadDomain as i16;
    check.equal("query_size of an unknown domain", calls::query(UNKNOWN_DOMAIN), Err(unknown));
    check.equal(
        "setup_table of an unknown domain",
        calls::setup::<1>(UNKNOWN_DOMAIN),
        Err(unknown),
    );
    let most = size.map_or(0, |(_, most)| most);
    let mut too_many =
        SetupTable { dom: domid::SELF, nr_frames: most + 1, ..SetupTable::default() };
    check.ok(
        "setup_table of too many",
        calls::list(SETUP_TABLE, core::slice::from_mut(&mut too_many)),
    );
    check.equal("its status", too_many.status, Status::GeneralError as i16);
    let mut unwritable = SetupTable {
        dom: domid::SELF,
        nr_frames: 1,
        status: 77,
        frame_list: HYPERVISOR_START,
        ..SetupTable::default()
    };
    let call = calls::list(SETUP_TABLE, core::slice::from_mut(&mut unwritable));
    check.refused("a list of frames in the hole", call, EFAULT);
    unwritable.frame_list = 0x1000;
    check.ok(
        "a list of frames that isn't mapped",
        calls::list(SETUP_TABLE, core::slice::from_mut(&mut unwritable)),
    );
    check.equal("its status", unwritable.status, Status::BadVirtualAddress as i16);
    check.equal("get_version", calls::version(domid::SELF).ok(), Some(1));
    check.refused("get_version of an unknown domain", calls::version(UNKNOWN_DOMAIN), ESRCH);
    let set = |mut version: u32| calls::raw(SET_VERSION, (&raw mut version) as u64, 1);
    check.ok("set_version 1", set(1));
    check.refused("set_version 3", set(3), EINVAL);
    if !check.on_xen() {
        // Xen would do it, but the tests are about version 1.
        check.refused("set_version 2", set(2), ENOSYS);
    }
    let mut frames =
        GetStatusFrames { nr_frames: 1, dom: domid::SELF, ..GetStatusFrames::default() };
    let call = calls::list(GET_STATUS_FRAMES, core::slice::from_mut(&mut frames));
    check.ok("get_status_frames of version 1", call);
    check.equal("its status", frames.status, Status::GeneralError as i16);

    check.refused("two elements of query_size", calls::raw(QUERY_SIZE, 0, 2), EINVAL);
    check.refused("two elements of setup_table", calls::raw(SETUP_TABLE, 0, 2), EINVAL);
    check.refused("a negative count", calls::raw(MAP_GRANT_REF, 0, 0x8000_0000), EINVAL);
    check.refused("an unknown command", calls::raw(99, 0, 0), ENOSYS);
    check.refused("dump_table", calls::raw(DUMP_TABLE, 0, 1), ENOSYS);
    check.refused("a list in the hole", calls::raw(MAP_GRANT_REF, HYPERVISOR_START, 1), EFAULT);
    check.refused("a list that isn't mapped", calls::raw(MAP_GRANT_REF, 0x1000, 1), EFAULT);
    check.ok("no elements", calls::raw(MAP_GRANT_REF, 0, 0));
}

fn at(fixture: &GrantFixture, window: Vaddr, flags: MapFlags) -> Map {
    Map { address: window.0, flags, dom: fixture.own, reference: FIRST }
}

/// Maps a page by its grant, uses it, and unmaps it.
fn mapping(fixture: &mut GrantFixture, check: &mut Check) {
    let (page, window) = (fixture.tables.frame(), fixture.window());
    fixture.tables.set(page, 3, MARK);
    fixture.grant(FIRST, PERMIT, fixture.own, page);
    let mapped = map(at(fixture, window, MAP_RW));
    let Ok((handle, machine)) = mapped else {
        check.equal("map", mapped.map(drop), Ok(()));
        return;
    };
    check.equal("dev_bus_addr is the frame's", machine, Mfn(fixture.tables.mfn(page)).address());
    check.equal("the page can be read", read(window, 3), Some(MARK));
    check.holds("and can be written", write(window, 4, !MARK));
    check.equal("its owner reads what was written", fixture.tables.get(page, 4), !MARK);
    check.equal("the entry is in use", fixture.flags(FIRST), PERMIT | IN_USE);
    let (_, entry) = fixture.leaf(window);
    check.equal(
        "the page-table entry is present and writable",
        entry & WRITABLE_ENTRY,
        WRITABLE_ENTRY,
    );

    let general = Status::GeneralError as i16;
    check.equal(
        "unmap of an unknown handle",
        unmap(handle + 1000, window.0),
        Status::BadHandle as i16,
    );
    check.equal(
        "unmap of another address",
        unmap(handle, fixture.tables.va(page).0 + 7 * PAGE_SIZE),
        general,
    );
    check.equal("unmap of an address without page tables", unmap(handle, 0x1000), general);
    check.equal("unmap of the hypervisor's address", unmap(handle, HYPERVISOR_START), general);
    check.equal("the entry is still in use", fixture.flags(FIRST), PERMIT | IN_USE);
    check.equal("unmap", unmap(handle, window.0), 0);
    check.equal("the entry is no longer in use", fixture.flags(FIRST), PERMIT);
    check.equal("the page is unmapped", read(window, 3), None);
    check.equal("unmap again", unmap(handle, window.0), Status::BadHandle as i16);

    // Two mappings by one entry.
    let second = fixture.window();
    let handles =
        [window, second].map(|va| map(at(fixture, va, MAP_RW)).map_or(0, |(handle, _)| handle));
    check.equal("unmap the first", unmap(handles[0], window.0), 0);
    check.equal("the entry is in use by the second", fixture.flags(FIRST), PERMIT | IN_USE);
    check.equal("the page can be read there", read(second, 3), Some(MARK));
    check.equal(
        "unmap of an address that belongs to another handle",
        unmap(handles[1], window.0),
        general,
    );
    check.equal("unmap the second", unmap(handles[1], second.0), 0);
    check.equal("the entry is no longer in use", fixture.flags(FIRST), PERMIT);
    fixture.grant_frame(FIRST, EntryFlags::empty(), 0, 0);
}

/// Maps read-only, and uses read-only entries.
fn read_only(fixture: &mut GrantFixture, check: &mut Check) {
    let (page, window) = (fixture.tables.frame(), fixture.window());
    fixture.tables.set(page, 0, MARK);
    fixture.grant(FIRST, PERMIT | EntryFlags::READ_ONLY, fixture.own, page);
    check.equal("map a read-only grant for writing", map(at(fixture, window, MAP_RW)), BAD);
    check.equal("the entry is not in use", fixture.flags(FIRST), PERMIT | EntryFlags::READ_ONLY);
    let Ok((handle, _)) = map(at(fixture, window, MAP_RO)) else {
        check.holds("map read-only", false);
        return;
    };
    let reading = PERMIT | EntryFlags::READ_ONLY | EntryFlags::READING;
    check.equal("the entry is in use for reading", fixture.flags(FIRST), reading);
    check.equal("it can be read", read(window, 0), Some(MARK));
    check.holds("but not written", !write(window, 0, 0));
    check.equal("unmap", unmap(handle, window.0), 0);
    check.equal(
        "the entry is no longer in use",
        fixture.flags(FIRST),
        PERMIT | EntryFlags::READ_ONLY,
    );
}

/// Tries to map what is not granted.
fn refusals(fixture: &mut GrantFixture, check: &mut Check) {
    let (page, window) = (fixture.tables.frame(), fixture.window());
    let own = fixture.own;
    let asked = at(fixture, window, MAP_RW);
    for (what, flags, dom) in [
        ("an entry of no type", EntryFlags::empty(), own),
        ("an entry for another domain", PERMIT, UNKNOWN_DOMAIN),
        ("an entry for a transfer", EntryFlags::ACCEPT_TRANSFER, own),
        ("an entry of type 3", EntryFlags::from_bits_retain(3), own),
    ] {
        fixture.grant(FIRST, flags, dom, page);
        check.equal(what, map(asked), BAD);
        check.equal("it is not in use", fixture.flags(FIRST), flags);
    }
    fixture.grant(FIRST, PERMIT, own, page);
    let beyond = Map { reference: 64 * ENTRIES_PER_FRAME, ..asked };
    check.equal("no such reference", map(beyond), Err(Status::BadReference as i16));
    let beyond = Map { reference: u32::MAX, ..asked };
    check.equal("the last reference", map(beyond), Err(Status::BadReference as i16));
    let bad_domain = Err(Status::BadDomain as i16);
    check.equal(
        "a reference of an unknown domain",
        map(Map { dom: UNKNOWN_DOMAIN, ..asked }),
        bad_domain,
    );
    check.equal("DOMID_SELF is not accepted", map(Map { dom: domid::SELF, ..asked }), bad_domain);
    let nothing = Map { flags: MapFlags::READ_ONLY, ..asked };
    check.equal("map for neither host nor device", map(nothing), Err(Status::BadReference as i16));
    if !check.on_xen() {
        let device = Map { flags: MapFlags::DEVICE_MAP, ..asked };
        check.equal("map for a device", map(device), Err(Status::NoDeviceSpace as i16));
    }
    check.equal(
        "map at an address without page tables",
        map(Map { address: 0x1000, ..asked }),
        BAD,
    );
    check.equal(
        "map at the hypervisor's address",
        map(Map { address: HYPERVISOR_START, ..asked }),
        BAD,
    );
    check.equal("map at a non-canonical address", map(Map { address: 1 << 47, ..asked }), BAD);
    fixture.grant_frame(FIRST, PERMIT, own, 0xffff_fff0);
    check.equal("a frame that doesn't exist", map(asked), Err(Status::BadPage as i16));
    check.equal("the entry is not in use", fixture.flags(FIRST), PERMIT);
    // An element after a bad one.
    fixture.grant(FIRST, PERMIT, own, page);
    let mut list = [FIRST, 5000, FIRST].map(|reference| MapGrantRef {
        host_addr: window.0,
        flags: MAP_RO.bits(),
        reference,
        dom: own,
        ..MapGrantRef::default()
    });
    list[1].reference = u32::MAX;
    check.ok("a list with a bad element", calls::list(MAP_GRANT_REF, &mut list));
    let bad = Status::BadReference as i16;
    check.equal("each has its status", list.map(|element| element.status), [0, bad, 0]);
    // The second mapping at the same address has replaced the first.
    check.equal("unmap one", unmap(list[2].handle, window.0), 0);
    check.equal(
        "the other is not mapped",
        unmap(list[0].handle, window.0),
        Status::GeneralError as i16,
    );
    check.equal("so the entry stays in use", fixture.flags(FIRST), PERMIT | EntryFlags::READING);
}

/// Gives the address as that of a page-table entry.
fn by_entry(fixture: &mut GrantFixture, check: &mut Check) {
    const REFERENCE: u32 = FIRST + 1;
    let (page, window) = (fixture.tables.frame(), fixture.window());
    fixture.tables.set(page, 9, MARK);
    fixture.grant(REFERENCE, PERMIT, fixture.own, page);
    let (entry_addr, _) = fixture.leaf(window);
    let by_entry = MAP_RW | MapFlags::CONTAINS_PTE;
    let asked =
        Map { address: entry_addr, flags: by_entry, dom: fixture.own, reference: REFERENCE };
    let general = Status::GeneralError as i16;
    check.equal("a misaligned entry", map(Map { address: entry_addr + 4, ..asked }), BAD);
    let no_table = fixture.tables.entry_addr(page, 0);
    check.equal("an entry of no table", map(Map { address: no_table, ..asked }), BAD);
    check.equal("an entry beyond memory", map(Map { address: 1 << 51, ..asked }), BAD);
    let Ok((handle, _)) = map(asked) else {
        check.holds("map at an entry", false);
        return;
    };
    check.equal("the page can be read", read(window, 9), Some(MARK));
    check.equal("unmap by address", unmap(handle, window.0), general);
    check.equal("unmap of a misaligned entry", unmap(handle, entry_addr + 4), general);
    check.equal("unmap", unmap(handle, entry_addr), 0);
    check.equal("the page is unmapped", read(window, 9), None);
    check.equal("the entry is no longer in use", fixture.flags(REFERENCE), PERMIT);
}

/// Page tables must not be mapped writable, by grants either.
fn tables(fixture: &mut GrantFixture, check: &mut Check) {
    const REFERENCE: u32 = FIRST + 2;
    let (page, window) = (fixture.tables.frame(), fixture.window());
    fixture.grant(REFERENCE, PERMIT, fixture.own, page);
    let asked = Map { reference: REFERENCE, ..at(fixture, window, MAP_RW) };
    fixture.tables.seal(page);
    check.equal("pin", fixture.tables.pin(page, 1), 0);
    check.equal("a table, writable", map(asked), BAD);
    let read_only = Map { flags: MAP_RO, ..asked };
    match map(read_only) {
        Ok((handle, _)) => check.equal("unmap", unmap(handle, window.0), 0),
        other => check.equal("a table, read-only", other.map(drop), Ok(())),
    }
    check.equal("unpin", fixture.tables.unpin(page), 0);
    let Ok((handle, _)) = map(asked) else {
        check.holds("map it when it is no longer a table", false);
        return;
    };
    check.equal("pin what a grant maps writable", fixture.tables.pin(page, 1), EINVAL.as_result());
    check.equal("unmap", unmap(handle, window.0), 0);
    check.equal("pin it then", fixture.tables.pin(page, 1), 0);
    fixture.tables.unpin(page);
    fixture.tables.unseal(page);
}

/// Overwrites a mapping instead of unmapping it.
fn overwritten(fixture: &mut GrantFixture, check: &mut Check) {
    if check.on_xen() {
        // Xen's first domain maps its own grants without taking references.
        return;
    }
    const REFERENCE: u32 = FIRST + 3;
    let (page, window) = (fixture.tables.frame(), fixture.window());
    fixture.grant(REFERENCE, PERMIT, fixture.own, page);
    let Ok((handle, _)) = map(Map { reference: REFERENCE, ..at(fixture, window, MAP_RW) }) else {
        check.holds("map", false);
        return;
    };
    check.equal("overwrite the entry", map_at(window, 0), 0);
    check.equal("unmap what is not mapped", unmap(handle, window.0), Status::GeneralError as i16);
    check.equal("the entry stays in use", fixture.flags(REFERENCE), PERMIT | IN_USE);
    // But the page has no reference any more.
    fixture.tables.seal(page);
    check.equal("pin", fixture.tables.pin(page, 1), 0);
    fixture.tables.unpin(page);
    fixture.tables.unseal(page);
}

/// Unmaps, and maps another page instead.
fn replaced(fixture: &mut GrantFixture, check: &mut Check) {
    const REFERENCE: u32 = FIRST + 4;
    let (page, window) = (fixture.tables.frame(), fixture.window());
    let other = fixture.tables.lose();
    let from = fixture.tables.va(other);
    fixture.tables.set(other, 0, MARK);
    fixture.grant(REFERENCE, PERMIT, fixture.own, page);
    let Ok((handle, _)) = map(Map { reference: REFERENCE, ..at(fixture, window, MAP_RW) }) else {
        check.holds("map", false);
        return;
    };
    check.equal("unmap and replace", calls::unmap_and_replace(handle, window.0, from.0), 0);
    check.equal("the other page is mapped", read(window, 0), Some(MARK));
    check.equal("it is no longer mapped at its old address", read(from, 0), None);
    check.equal("the entry is no longer in use", fixture.flags(REFERENCE), PERMIT);
    check.equal(
        "its old address can be mapped again",
        map_at(window, fixture.tables.entry(other, RO)),
        0,
    );
}

/// Swaps two entries.
fn swapped(fixture: &mut GrantFixture, check: &mut Check) {
    let (a, b) = (FIRST + 5, FIRST + 6);
    let page: Pfn = fixture.tables.frame();
    fixture.grant(a, PERMIT, fixture.own, page);
    fixture.grant_frame(b, EntryFlags::empty(), 3, 4);
    check.equal("swap", calls::swap(a, b), 0);
    check.equal(
        "one is the other",
        (fixture.flags(b), fixture.frame(b)),
        (PERMIT, fixture.tables.mfn(page)),
    );
    check.equal("the other is one", (fixture.flags(a), fixture.frame(a)), (EntryFlags::empty(), 4));
    check.equal(
        "swap with an entry that doesn't exist",
        calls::swap(a, u32::MAX),
        Status::BadReference as i16,
    );
    let window = fixture.window();
    let Ok((handle, _)) = map(Map { reference: b, ..at(fixture, window, MAP_RO) }) else {
        check.holds("map", false);
        return;
    };
    check.equal("swap an entry in use", calls::swap(a, b), Status::Again as i16);
    check.equal("unmap", unmap(handle, window.0), 0);
}

/// Makes more mappings than one frame of handles has room for, by several entries, since Xen
/// counts at most 128 mappings of one.
fn many(fixture: &mut GrantFixture, check: &mut Check) {
    const REFERENCES: core::ops::Range<u32> = FIRST + 24..FIRST + 34;
    const EACH: usize = 70;
    let (page, window) = (fixture.tables.frame(), fixture.window());
    let mut made = 0;
    for reference in REFERENCES {
        fixture.grant(reference, PERMIT, fixture.own, page);
        let asked = Map { reference, ..at(fixture, window, MAP_RO) };
        // Each replaces the one before; the last one stays.
        made += (0..EACH).filter_map(|_| map(asked).ok()).count();
        check.equal(
            "the entry is in use for reading",
            fixture.flags(reference),
            PERMIT | EntryFlags::READING,
        );
    }
    check.equal("all are mapped", made, EACH * REFERENCES.count());
}

/// Uses frames of the hypervisor that are shared with the guest: it can't grant, transfer or give
/// back these.
fn shared_frames(fixture: &mut GrantFixture, check: &mut Check) {
    const REFERENCE: u32 = FIRST + 40;
    // The second frame of the table is not mapped.
    let frames = calls::setup::<2>(domid::SELF);
    check.equal("a longer table", frames.map(drop), Ok(()));
    let Ok([_, second]) = frames else { return };
    check.equal("give back a frame of the table", give_back(second), 0);
    check.equal("the table is unchanged", calls::setup::<2>(domid::SELF), frames);
    let window = fixture.window();
    check.equal("it can be mapped", map_at(window, Mfn(second).address() | RW), 0);
    check.equal("and unmapped", map_at(window, 0), 0);
    let bad = Status::BadPage as i16;
    fixture.grant_frame(REFERENCE, PERMIT, fixture.own, second);
    let asked = Map { reference: REFERENCE, ..at(fixture, window, MAP_RW) };
    check.equal("grant and map it", map(asked), Err(bad));
    fixture.grant_frame(REFERENCE, EntryFlags::ACCEPT_TRANSFER, fixture.own, 0);
    check.equal("transfer it", calls::transfer(second, fixture.own, REFERENCE), bad);
    let info = fixture.shared_info;
    check.equal("transfer the shared page", calls::transfer(info, fixture.own, REFERENCE), bad);
    check.equal(
        "the entry still waits for a frame",
        fixture.flags(REFERENCE),
        EntryFlags::ACCEPT_TRANSFER,
    );
    check.equal("give back the shared page", give_back(fixture.shared_info), 0);
}
