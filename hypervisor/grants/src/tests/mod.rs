//! Random granters and borrowers, against what a list of uses says.

use crate::entry::Entry;
use crate::*;
use pinfold_abi::grant::{EntryFlags, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

/// Words in memory.
struct Memory(Vec<AtomicU64>);

impl Memory {
    fn of(words: usize) -> Memory {
        Memory((0..words).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Words for Memory {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.0.get(index)
    }
}

const ENTRIES: u32 = 4;

fn table() -> Table<Memory, Memory> {
    let entries = ENTRIES as usize;
    Table::new(Memory::of(entries), Memory::of(entries * WORDS_PER_ENTRY))
}

fn set(table: &Table<Memory, Memory>, reference: u32, entry: Entry) {
    table.entries().0[reference as usize].store(entry.0, Ordering::SeqCst);
}

fn get(table: &Table<Memory, Memory>, reference: u32) -> Entry {
    Entry(table.entries().0[reference as usize].load(Ordering::SeqCst))
}

const PERMIT: u16 = EntryFlags::PERMIT_ACCESS.bits();
const READ_ONLY: u16 = EntryFlags::READ_ONLY.bits();
const READING: u16 = EntryFlags::READING.bits();
const WRITING: u16 = EntryFlags::WRITING.bits();
const ACCEPT: u16 = EntryFlags::ACCEPT_TRANSFER.bits();

#[test]
fn an_entry_says_who_may_do_what() {
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
        set(&table, 1, Entry::new(flags, domain, 77));
        let begun = table.begin(1, 2, write);
        assert_eq!(begun, if granted { Ok(77) } else { Err(Status::GeneralError) }, "{flags:#x}");
        let marks = match (granted, write) {
            (false, _) => 0,
            (true, false) => READING,
            (true, true) => READING | WRITING,
        };
        assert_eq!(get(&table, 1), Entry::new(flags | marks, domain, 77));
    }
    assert_eq!(table().begin(ENTRIES, 2, false), Err(Status::BadReference));
    assert_eq!(table().begin(u32::MAX, 2, false), Err(Status::BadReference));
}

#[test]
fn marks_stay_until_the_last_use_ends() {
    let mut table = table();
    set(&table, 0, Entry::new(PERMIT, 2, 5));
    for write in [false, true, true] {
        assert_eq!(table.begin(0, 2, write), Ok(5));
    }
    let marks = |table: &Table<_, _>| get(table, 0).flags().bits() & (READING | WRITING);
    table.end(0, true);
    assert_eq!(marks(&table), READING | WRITING);
    table.end(0, true);
    assert_eq!(marks(&table), READING);
    table.end(0, false);
    assert_eq!(marks(&table), 0);
}

/// A guest that takes a grant back, or gives another frame, while it is used.
#[test]
fn a_use_is_of_one_frame_and_one_domain() {
    let mut table = table();
    set(&table, 0, Entry::new(PERMIT, 2, 5));
    assert_eq!(table.begin(0, 2, true), Ok(5));
    set(&table, 0, Entry::new(PERMIT, 3, 6));
    assert_eq!(table.begin(0, 3, false), Err(Status::GeneralError));
    assert_eq!(table.begin(0, 2, false), Ok(5));
    table.end(0, true);
    // The entry is looked at again for what no use that goes on has asked.
    assert_eq!(table.begin(0, 2, true), Err(Status::GeneralError));
    table.end(0, false);
    assert_eq!(table.begin(0, 3, false), Ok(6));
}

#[test]
fn a_domain_that_ended_grants_nothing() {
    let mut table = table();
    set(&table, 0, Entry::new(PERMIT, 2, 5));
    assert_eq!(table.begin(0, 2, true), Ok(5));
    table.close();
    table.end(0, true);
    assert_eq!(get(&table, 0).flags().bits(), PERMIT | READING | WRITING, "not written any more");
    assert_eq!(table.begin(0, 2, true), Err(Status::BadDomain));
    assert_eq!(table.begin_transfer(0, 2), Err(Status::BadDomain));
}

#[test]
fn a_transfer_goes_to_an_entry_that_waits_for_it() {
    let mut table = table();
    set(&table, 0, Entry::new(ACCEPT, 2, 5));
    assert_eq!(table.begin_transfer(0, 3), Err(Status::GeneralError));
    assert_eq!(table.begin_transfer(1, 2), Err(Status::GeneralError));
    assert_eq!(table.begin_transfer(9, 2), Err(Status::BadReference));
    assert_eq!(table.begin_transfer(0, 2), Ok(()));
    assert_eq!(table.begin_transfer(0, 2), Err(Status::GeneralError), "one at a time");
    assert_eq!(table.begin(0, 2, false), Err(Status::GeneralError));
    table.abort_transfer(0);
    assert_eq!(table.begin_transfer(0, 2), Ok(()));
    table.end_transfer(0, 0x1234);
    let done = EntryFlags::TRANSFER_COMMITTED | EntryFlags::TRANSFER_COMPLETED;
    assert_eq!(get(&table, 0), Entry::new(ACCEPT | done.bits(), 2, 0x1234));
}

#[test]
fn entries_change_places_while_nobody_uses_them() {
    let mut table = table();
    let (a, b) = (Entry::new(PERMIT, 2, 5), Entry::new(PERMIT, 3, 6));
    set(&table, 0, a);
    set(&table, 3, b);
    assert_eq!(table.swap(0, 3), Ok(()));
    assert_eq!((get(&table, 0), get(&table, 3)), (b, a));
    assert_eq!(table.swap(0, 0), Ok(()));
    assert_eq!(table.swap(0, ENTRIES), Err(Status::BadReference));
    table.begin(3, 2, false).unwrap();
    assert_eq!(table.swap(0, 3), Err(Status::Again));
    assert_eq!(table.swap(3, 0), Err(Status::Again));
}

#[derive(Clone, Debug)]
enum Step {
    Scribble(u32, u16, u16, u32),
    Begin(u32, u16, bool),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let reference = 0..ENTRIES + 1;
    prop_oneof![
        (0..ENTRIES, prop_oneof![Just(PERMIT), 0..32u16], 1..4u16, 1..9u32)
            .prop_map(|(r, flags, domain, frame)| Step::Scribble(r, flags, domain, frame)),
        (reference, 1..4u16, any::<bool>()).prop_map(|(r, d, w)| Step::Begin(r, d, w)),
        (0..16usize).prop_map(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A guest that writes anything to its entries, and uses that begin and end in any order.
    #[test]
    fn uses_are_what_entries_granted(steps in prop::collection::vec(step(), 0..80)) {
        let mut table = table();
        // Reference, domain, writing, frame.
        let mut uses: Vec<(u32, u16, bool, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Scribble(reference, flags, domain, frame) => {
                    set(&table, reference, Entry::new(flags, domain, frame));
                }
                Step::Begin(reference, domain, write) if reference < ENTRIES => {
                    let entry = get(&table, reference);
                    let granted = entry.kind() == EntryFlags::PERMIT_ACCESS
                        && entry.domain() == domain
                        && !(write && entry.flags().contains(EntryFlags::READ_ONLY));
                    let going_on: Vec<_> =
                        uses.iter().filter(|(r, ..)| *r == reference).copied().collect();
                    let expected = match going_on.first() {
                        None => granted.then_some(entry.frame()),
                        Some((_, user, ..)) if *user != domain => None,
                        Some((_, _, _, frame)) => {
                            let asked = going_on.iter().any(|(_, _, w, _)| *w || !write);
                            (asked || granted).then_some(*frame)
                        }
                    };
                    let begun = table.begin(reference, domain, write);
                    prop_assert_eq!(begun.ok(), expected);
                    uses.extend(begun.ok().map(|frame| (reference, domain, write, frame)));
                }
                Step::Begin(reference, domain, write) => {
                    prop_assert_eq!(table.begin(reference, domain, write), Err(Status::BadReference));
                }
                Step::End(which) if which < uses.len() => {
                    let (reference, _, write, _) = uses.swap_remove(which);
                    table.end(reference, write);
                    let marks = get(&table, reference).flags();
                    let mut left = uses.iter().filter(|(r, ..)| *r == reference);
                    if left.clone().count() == 0 {
                        prop_assert!(!marks.intersects(EntryFlags::READING));
                    }
                    if !left.any(|(_, _, w, _)| *w) {
                        prop_assert!(!marks.intersects(EntryFlags::WRITING));
                    }
                }
                Step::End(_) => {}
            }
        }
    }

    /// Handles are given out once, and name what they were filled with.
    #[test]
    fn handles_are_unique(steps in prop::collection::vec((0..6u8, any::<u32>()), 0..120)) {
        const ROOM: u32 = 8;
        let mut handles = Handles::new(Memory::of(ROOM as usize * 2));
        let mut busy: Vec<u32> = Vec::new();
        let mut mapped: BTreeMap<u32, Mapping> = BTreeMap::new();
        for (what, number) in steps {
            let pick = |list: &Vec<u32>| (!list.is_empty()).then(|| number as usize % list.len());
            match what {
                0 | 1 => match handles.reserve() {
                    Some(handle) => {
                        prop_assert!(!busy.contains(&handle) && !mapped.contains_key(&handle));
                        busy.push(handle);
                    }
                    None => prop_assert_eq!(busy.len() + mapped.len(), ROOM as usize),
                },
                2 | 3 => if let Some(at) = pick(&busy) {
                    let handle = busy.swap_remove(at);
                    let mapping = Mapping {
                        granter: number as u16,
                        reference: number.rotate_left(7),
                        frame: u64::from(number) << 8,
                        writable: number & 1 != 0,
                        by_entry: number & 2 != 0,
                    };
                    handles.fill(handle, mapping);
                    mapped.insert(handle, mapping);
                },
                4 => {
                    let handle = number % (ROOM + 2);
                    let taken = handles.take(handle);
                    prop_assert_eq!(taken, mapped.remove(&handle));
                    busy.extend(taken.map(|_| handle));
                }
                _ => if let Some(at) = pick(&busy) {
                    handles.release(busy.swap_remove(at));
                },
            }
        }
        prop_assert_eq!(handles.take(u32::MAX), None);
        // A domain that ends has nothing busy.
        busy.drain(..).for_each(|handle| handles.release(handle));
        let mut from = 0;
        while let Some((handle, mapping)) = handles.take_any(from) {
            prop_assert_eq!(mapped.remove(&handle), Some(mapping));
            from = handle;
        }
        prop_assert!(mapped.is_empty());
    }
}

/// The count of uses is the borrower's to drive up; it must not run over.
#[test]
fn a_full_count_is_refused() {
    let mut table = table();
    set(&table, 0, Entry::new(PERMIT, 2, 5));
    for write in [false, true] {
        assert_eq!(table.begin(0, 2, write), Ok(5));
    }
    let full = u64::MAX;
    table.parts().1.0[1].store(full, Ordering::SeqCst);
    for write in [false, true] {
        assert_eq!(table.begin(0, 2, write), Err(Status::GeneralError));
    }
}
