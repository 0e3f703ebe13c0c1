//! Granting, use counts and transfers, also against a naive list of uses.

use super::CASES;
use crate::entry::{flags, from_word, to_word, type_of};
use crate::*;
use pinfold_abi::address::Mfn;
use pinfold_abi::grant::{EntryFlags, EntryV1, Status};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

const ENTRIES: usize = 4;
/// References of the table's entries are below this.
const REFERENCES: u32 = ENTRIES as u32;

type Table = GrantTable<[AtomicU64; ENTRIES], [AtomicU64; ENTRIES * WORDS_PER_ENTRY]>;

fn table() -> Table {
    GrantTable::new([const { AtomicU64::new(0) }; _], [const { AtomicU64::new(0) }; _])
}

const fn entry(flags: u16, domid: u16, frame: u32) -> EntryV1 {
    EntryV1 { flags, domid, frame }
}

/// The guest writes an entry.
fn set(table: &Table, reference: u32, entry: EntryV1) {
    table.entries()[reference as usize].store(to_word(entry), Ordering::SeqCst);
}

fn get(table: &Table, reference: u32) -> EntryV1 {
    from_word(table.entries()[reference as usize].load(Ordering::SeqCst))
}

const PERMIT: u16 = EntryFlags::PERMIT_ACCESS.bits();
const READ_ONLY: u16 = EntryFlags::READ_ONLY.bits();
const READING: u16 = EntryFlags::READING.bits();
const WRITING: u16 = EntryFlags::WRITING.bits();
const ACCEPT: u16 = EntryFlags::ACCEPT_TRANSFER.bits();

#[test]
fn an_entry_grants_access_by_type_domain_and_read_only_flag() {
    for (flags, domain, write, granted) in [
        (PERMIT, 2, true, true),
        (PERMIT, 2, false, true),
        (PERMIT | READ_ONLY, 2, false, true),
        (PERMIT | READ_ONLY, 2, true, false),
        (PERMIT, 3, false, false),
        (0, 2, false, false),
        (ACCEPT, 2, false, false),
        (3, 2, false, false),
    ] {
        let mut table = table();
        set(&table, 1, entry(flags, domain, 77));
        let acquired = table.acquire(1, 2, write);
        assert_eq!(
            acquired,
            if granted { Ok(Mfn::new(77)) } else { Err(Status::GeneralError) },
            "{flags:#x}"
        );
        let in_use = match (granted, write) {
            (false, _) => 0,
            (true, false) => READING,
            (true, true) => READING | WRITING,
        };
        assert_eq!(get(&table, 1), entry(flags | in_use, domain, 77));
    }
    assert_eq!(table().acquire(REFERENCES, 2, false), Err(Status::BadReference));
    assert_eq!(table().acquire(u32::MAX, 2, false), Err(Status::BadReference));
}

#[test]
fn in_use_flags_stay_until_the_last_release() {
    let mut table = table();
    set(&table, 0, entry(PERMIT, 2, 5));
    for write in [false, true, true] {
        assert_eq!(table.acquire(0, 2, write), Ok(Mfn::new(5)));
    }
    let in_use = |table: &GrantTable<_, _>| get(table, 0).flags & (READING | WRITING);
    table.release(0, true);
    assert_eq!(in_use(&table), READING | WRITING);
    table.release(0, true);
    assert_eq!(in_use(&table), READING);
    table.release(0, false);
    assert_eq!(in_use(&table), 0);
}

/// A guest that revokes a grant, or grants another frame, while it is in use.
#[test]
fn overlapping_uses_get_one_frame_and_one_domain() {
    let mut table = table();
    set(&table, 0, entry(PERMIT, 2, 5));
    assert_eq!(table.acquire(0, 2, true), Ok(Mfn::new(5)));
    set(&table, 0, entry(PERMIT, 3, 6));
    assert_eq!(table.acquire(0, 3, false), Err(Status::GeneralError));
    assert_eq!(table.acquire(0, 2, false), Ok(Mfn::new(5)));
    table.release(0, true);
    // No current use is writable, so the entry is checked again.
    assert_eq!(table.acquire(0, 2, true), Err(Status::GeneralError));
    table.release(0, false);
    assert_eq!(table.acquire(0, 3, false), Ok(Mfn::new(6)));
}

#[test]
fn a_closed_table_grants_nothing() {
    let mut table = table();
    set(&table, 0, entry(PERMIT, 2, 5));
    assert_eq!(table.acquire(0, 2, true), Ok(Mfn::new(5)));
    table.close();
    table.release(0, true);
    assert_eq!(get(&table, 0).flags, PERMIT | READING | WRITING, "not written after close");
    assert_eq!(table.acquire(0, 2, true), Err(Status::BadDomain));
    assert_eq!(table.commit_transfer(0, 2), Err(Status::BadDomain));
}

#[test]
fn a_transfer_needs_an_entry_that_accepts_it() {
    let mut table = table();
    set(&table, 0, entry(ACCEPT, 2, 5));
    assert_eq!(table.commit_transfer(0, 3), Err(Status::GeneralError));
    assert_eq!(table.commit_transfer(1, 2), Err(Status::GeneralError));
    assert_eq!(table.commit_transfer(9, 2), Err(Status::BadReference));
    assert_eq!(table.commit_transfer(0, 2), Ok(()));
    assert_eq!(table.commit_transfer(0, 2), Err(Status::GeneralError), "one at a time");
    assert_eq!(table.acquire(0, 2, false), Err(Status::GeneralError));
    table.abort_transfer(0);
    assert_eq!(table.commit_transfer(0, 2), Ok(()));
    table.complete_transfer(0, Mfn::new(0x1234));
    let done = EntryFlags::TRANSFER_COMMITTED | EntryFlags::TRANSFER_COMPLETED;
    assert_eq!(get(&table, 0), entry(ACCEPT | done.bits(), 2, 0x1234));
}

#[test]
fn swap_is_refused_while_an_entry_is_in_use() {
    let mut table = table();
    let (a, b) = (entry(PERMIT, 2, 5), entry(PERMIT, 3, 6));
    set(&table, 0, a);
    set(&table, 3, b);
    assert_eq!(table.swap(0, 3), Ok(()));
    assert_eq!((get(&table, 0), get(&table, 3)), (b, a));
    assert_eq!(table.swap(0, 0), Ok(()));
    assert_eq!(table.swap(0, REFERENCES), Err(Status::BadReference));
    table.acquire(3, 2, false).unwrap();
    assert_eq!(table.swap(0, 3), Err(Status::Again));
    assert_eq!(table.swap(3, 0), Err(Status::Again));
}

#[derive(Clone, Debug)]
enum Step {
    GuestWrites(u32, u16, u16, u32),
    Acquire(u32, u16, bool),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let reference = 0..REFERENCES + 1;
    prop_oneof![
        (0..REFERENCES, prop_oneof![Just(PERMIT), 0..32u16], 1..4u16, 1..9u32)
            .prop_map(|(r, flags, domain, frame)| Step::GuestWrites(r, flags, domain, frame)),
        (reference, 1..4u16, any::<bool>()).prop_map(|(r, d, w)| Step::Acquire(r, d, w)),
        (0..16usize).prop_map(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Arbitrary writes by the guest, with uses acquired and released in any order.
    #[test]
    fn every_use_was_granted_by_its_entry(steps in prop::collection::vec(step(), 0..80)) {
        let mut table = table();
        // Reference, domain, writing, frame.
        let mut uses: Vec<(u32, u16, bool, Mfn)> = Vec::new();
        for step in steps {
            match step {
                Step::GuestWrites(reference, flags, domain, frame) => {
                    set(&table, reference, entry(flags, domain, frame));
                }
                Step::Acquire(reference, domain, write) if reference < REFERENCES => {
                    let entry = get(&table, reference);
                    let granted = type_of(entry) == EntryFlags::PERMIT_ACCESS
                        && entry.domid == domain
                        && !(write && flags(entry).contains(EntryFlags::READ_ONLY));
                    let current: Vec<_> =
                        uses.iter().filter(|(r, ..)| *r == reference).copied().collect();
                    let expected = match current.first() {
                        None => granted.then_some(Mfn::new(entry.frame.into())),
                        Some((_, user, ..)) if *user != domain => None,
                        Some((_, _, _, frame)) => {
                            let already_set = current.iter().any(|(_, _, w, _)| *w || !write);
                            (already_set || granted).then_some(*frame)
                        }
                    };
                    let acquired = table.acquire(reference, domain, write);
                    prop_assert_eq!(acquired.ok(), expected);
                    uses.extend(acquired.ok().map(|frame| (reference, domain, write, frame)));
                }
                Step::Acquire(reference, domain, write) => {
                    prop_assert_eq!(table.acquire(reference, domain, write), Err(Status::BadReference));
                }
                Step::Release(which) if which < uses.len() => {
                    let (reference, _, write, _) = uses.swap_remove(which);
                    table.release(reference, write);
                    let in_use = flags(get(&table, reference));
                    let mut left = uses.iter().filter(|(r, ..)| *r == reference);
                    if left.clone().count() == 0 {
                        prop_assert!(!in_use.intersects(EntryFlags::READING));
                    }
                    if !left.any(|(_, _, w, _)| *w) {
                        prop_assert!(!in_use.intersects(EntryFlags::WRITING));
                    }
                }
                Step::Release(_) => {}
            }
        }
    }
}

/// Guests can make the counts grow; they must not overflow.
#[test]
fn acquiring_is_refused_when_the_count_is_full() {
    let mut table = table();
    set(&table, 0, entry(PERMIT, 2, 5));
    for write in [false, true] {
        assert_eq!(table.acquire(0, 2, write), Ok(Mfn::new(5)));
    }
    let full = u64::MAX;
    table.storage_mut().1[1].store(full, Ordering::SeqCst);
    for write in [false, true] {
        assert_eq!(table.acquire(0, 2, write), Err(Status::GeneralError));
    }
}
