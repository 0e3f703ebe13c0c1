//! The search for mappings.

use super::*;
use std::ops::ControlFlow;

fn search(
    world: &World,
    frame: Mfn,
    which: MappingFilter,
    bounds: SearchLimits,
) -> (Vec<FrameMapping>, SearchEnd) {
    let mut found = Vec::new();
    let end = world.find_mappings(frame, A, which, bounds, &mut |mapping| {
        found.push(mapping);
        ControlFlow::Continue(())
    });
    assert_eq!(end.found as usize, found.len());
    (found, end)
}

fn all(world: &World, frame: Mfn, which: MappingFilter) -> Vec<FrameMapping> {
    let (found, end) = search(world, frame, which, SearchLimits::default());
    assert!(!end.cut_short);
    found
}

#[test]
fn mappings_are_found_with_their_addresses() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    let writable = all(world, PAGE, MappingFilter::Writable);
    assert_eq!(
        writable,
        [FrameMapping {
            address: Some(Vaddr::new(0)),
            root: Some(L4),
            table: L1,
            index: slot(0),
            entry: Entry::new(rw(PAGE)),
        }]
    );
    let both: Vec<_> = all(world, PAGE, MappingFilter::All).iter().map(|m| m.address).collect();
    assert_eq!(both, [Some(Vaddr::new(0)), Some(page(1))]);
    assert_eq!(all(world, mfn(6), MappingFilter::All), []);
    assert_eq!(all(world, mfn(9999), MappingFilter::All), []);
}

#[test]
fn tables_that_come_and_go_are_found_while_they_are_there() {
    // A search of a chunk without tables marks it as such; the next table must undo that.
    let world = fresh();
    tree(world);
    for _ in 0..3 {
        assert_eq!(all(world, PAGE, MappingFilter::Writable), []);
        pin(world, Level::L4, L4).unwrap();
        assert_eq!(all(world, PAGE, MappingFilter::Writable).len(), 1);
        assert_eq!(all(world, PAGE, MappingFilter::All).len(), 2);
        unpin(world, L4);
    }
    assert_eq!(all(world, PAGE, MappingFilter::All), []);
}

#[test]
fn a_table_in_no_address_space_is_reported_without_one() {
    let world = fresh();
    tree(world);
    pin(world, Level::L1, L1).unwrap();
    let found = all(world, PAGE, MappingFilter::Writable);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].address, found[0].root, found[0].table), (None, None, L1));
    // Attached to an L2 that hangs nowhere: the same.
    pin(world, Level::L2, L2).unwrap();
    assert_eq!(all(world, PAGE, MappingFilter::Writable)[0].address, None);
}

#[test]
fn each_address_is_reported_once() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    // The L2 twice in the L3; the L3 once more in the upper half; and a second root that shares
    // all that.
    machine.set(L3, 5, rw(L2));
    machine.set(L4, 300, rw(L3));
    let other = mfn(6);
    machine.set(other, 0, rw(L3));
    pin(world, Level::L4, L4).unwrap();
    pin(world, Level::L4, other).unwrap();
    let mut found: Vec<u64> = all(world, PAGE, MappingFilter::Writable)
        .iter()
        .map(|m| m.address.unwrap().get())
        .collect();
    found.sort_unstable();
    let high = 0xffff_0000_0000_0000 | 300 << 39;
    assert_eq!(found, [0, 5 << 30, high, high | 5 << 30]);
    for address in found {
        let leaf = world.walk(L4, Vaddr::new(address)).unwrap();
        assert_eq!(leaf.entry.get(), rw(PAGE));
    }
}

#[test]
fn a_search_counts_the_validated_part_of_a_partial_table() {
    let world = fresh();
    world.platform().set(L1, 10, rw(PAGE));
    world.platform().set(L1, 400, rw(PAGE));
    assert_eq!(world.pin(A, Level::L1, L1, &mut Budget::new(100)), Err(Error::Preempted));
    let found: Vec<_> =
        all(world, PAGE, MappingFilter::All).iter().map(|m| m.index.get()).collect();
    assert_eq!(found, [10]);
}

#[test]
fn a_search_that_meets_its_limits_says_so() {
    let world = fresh();
    for index in 0..512 {
        world.platform().set(L1, index, rw(PAGE));
    }
    pin(world, Level::L1, L1).unwrap();
    let few = SearchLimits { mappings: 5, ..SearchLimits::default() };
    let (found, end) = search(world, PAGE, MappingFilter::All, few);
    assert_eq!((found.len(), end.cut_short), (5, true));
    let exactly = SearchLimits { mappings: 512, ..SearchLimits::default() };
    assert!(!search(world, PAGE, MappingFilter::All, exactly).1.cut_short);
    for reads in [0, 10, 600, 700] {
        let short = SearchLimits { reads, ..SearchLimits::default() };
        assert!(search(world, PAGE, MappingFilter::All, short).1.cut_short);
    }
    let mut seen = 0;
    let end =
        world.find_mappings(PAGE, A, MappingFilter::All, SearchLimits::default(), &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
    assert_eq!((seen, end.cut_short), (1, true));
}

#[test]
fn other_domains_tables_are_not_searched() {
    let world = fresh();
    world.platform().set(mfn(16), 0, rw(mfn(17)));
    world.pin(B, Level::L1, mfn(16), &mut Budget::unlimited()).unwrap();
    assert_eq!(all(world, mfn(17), MappingFilter::All), []);
}

#[test]
fn every_refused_alias_can_be_found() {
    // What the log promises: the mapping in the way is named.
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    let refused = refusal(pin(world, Level::L1, PAGE));
    assert!(refused.is_alias());
    let found = all(world, refused.frame, MappingFilter::Writable);
    assert_eq!(found.len(), refused.seen.unwrap().type_count() as usize);
}

#[test]
fn a_search_in_pieces_finds_all_that_a_whole_one_does() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    machine.set(L3, 5, rw(L2));
    machine.set(L4, 300, rw(L3));
    machine.set(L1, 511, rw(PAGE));
    pin(world, Level::L4, L4).unwrap();
    let whole = all(world, PAGE, MappingFilter::All);
    assert!(whole.len() >= 8);
    for entries in [1, 2, 3, 7, 100, 600] {
        let mut search = world.begin_search(PAGE, A, MappingFilter::All, SearchLimits::default());
        let mut found = Vec::new();
        let mut pieces = 0;
        let end = loop {
            let mut budget = Budget::new(entries);
            let end = world.search(&mut search, &mut budget, &mut |mapping| {
                found.push(mapping);
                ControlFlow::Continue(())
            });
            pieces += 1;
            assert!(pieces < 1_000_000, "a budget of {entries} gets to the end");
            if let Some(end) = end {
                break end;
            }
            assert_eq!(budget.left(), 0, "it stops only for the budget");
        };
        assert_eq!((&found, end.cut_short), (&whole, false));
        assert!(pieces > 2048 / entries, "{pieces} pieces of {entries}");
    }
}

#[test]
fn a_search_in_pieces_keeps_its_limits() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    let bounds = SearchLimits { reads: 700, ..SearchLimits::default() };
    let mut search = world.begin_search(PAGE, A, MappingFilter::All, bounds);
    let mut read = 0;
    loop {
        let mut budget = Budget::new(50);
        let end = world.search(&mut search, &mut budget, &mut |_| ControlFlow::Continue(()));
        read += 50 - budget.left();
        if let Some(end) = end {
            assert!(end.cut_short);
            break;
        }
    }
    assert_eq!(read, 700);
}
