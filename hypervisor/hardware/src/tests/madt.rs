//! Tables as firmware writes them, and broken ones.

use crate::madt::{IoApic, LARGEST_X2APIC_ID, LARGEST_XAPIC_ID, Madt};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

type Found = Madt<64>;

/// A local APIC: entry of type 0.
fn apic(id: u8, flags: u32) -> Vec<u8> {
    [&[0, 8, id, id], &flags.to_le_bytes()[..]].concat()
}

/// A local x2APIC: entry of type 9.
fn x2apic(id: u32, flags: u32) -> Vec<u8> {
    [&[9, 16, 0, 0], &id.to_le_bytes()[..], &flags.to_le_bytes(), &id.to_le_bytes()].concat()
}

fn io_apic(address: u32, first_input: u32) -> Vec<u8> {
    [&[1, 12, 0, 0], &address.to_le_bytes()[..], &first_input.to_le_bytes()].concat()
}

fn source_override(irq: u8, input: u32) -> Vec<u8> {
    [&[2, 10, 0, irq], &input.to_le_bytes()[..], &[0, 0]].concat()
}

fn read(entries: &[Vec<u8>]) -> Found {
    Found::read(&entries.concat(), LARGEST_X2APIC_ID)
}

#[test]
fn qemu_table_with_four_processors() {
    let found = read(&[
        apic(0, 1),
        apic(1, 1),
        apic(2, 1),
        apic(3, 1),
        io_apic(0xfec0_0000, 0),
        source_override(0, 2),
        // Local APIC NMI.
        vec![4, 6, 0xff, 0, 0, 1],
    ]);
    assert_eq!(found.apic_ids[..], [0, 1, 2, 3]);
    assert_eq!(found.io_apic, Some(IoApic { address: 0xfec0_0000, serial_input: 4 }));
    assert!(!found.needs_x2apic());
    assert_eq!((found.excess, found.unreachable, found.malformed_at), (0, 0, None));
}

#[test]
fn ids_above_254_come_from_type_9() {
    let found = read(&[apic(0, 1), x2apic(254, 1), x2apic(255, 1), x2apic(0x1_0000, 1)]);
    assert_eq!(found.apic_ids[..], [0, 254, 255, 0x1_0000]);
    assert!(found.needs_x2apic());
}

#[test]
fn processor_in_both_forms_counts_once() {
    let found = read(&[apic(0, 1), apic(1, 1), x2apic(0, 1), x2apic(1, 1), x2apic(2, 1)]);
    assert_eq!(found.apic_ids[..], [0, 1, 2]);
    assert!(!found.needs_x2apic());
}

#[test]
fn without_x2apic_large_ids_are_left_out_and_counted() {
    let entries = [apic(0, 1), x2apic(255, 1), x2apic(256, 1), x2apic(7, 1)].concat();
    let found = Found::read(&entries, LARGEST_XAPIC_ID);
    assert_eq!(found.apic_ids[..], [0, 7]);
    assert_eq!(found.unreachable, 2);
    assert!(!found.needs_x2apic());
}

#[test]
fn disabled_processors_and_ids_that_mean_all_are_ignored() {
    // Flag 2: can be enabled later.
    let found = read(&[
        apic(0, 1),
        apic(1, 0),
        apic(2, 2),
        apic(255, 1),
        x2apic(u32::MAX, 1),
        x2apic(9, 2),
    ]);
    assert_eq!(found.apic_ids[..], [0]);
    assert_eq!(found.unreachable, 0);
}

#[test]
fn what_follows_too_many_processors_is_still_read() {
    let mut entries: Vec<Vec<u8>> = (0..70).map(|id| x2apic(id, 1)).collect();
    entries.push(source_override(4, 20));
    entries.push(io_apic(0xfec0_0000, 0));
    let found = read(&entries);
    assert_eq!(found.apic_ids.len(), 64);
    assert_eq!(found.excess, 6);
    assert_eq!(found.io_apic, Some(IoApic { address: 0xfec0_0000, serial_input: 20 }));
}

#[test]
fn serial_port_is_at_the_io_apic_that_serves_its_input() {
    let [low, high] = [io_apic(0xfec0_0000, 0), io_apic(0xfec1_0000, 24)];
    for entries in [[low.clone(), high.clone()], [high.clone(), low]] {
        let found = read(&entries);
        assert_eq!(found.io_apic, Some(IoApic { address: 0xfec0_0000, serial_input: 4 }));
        let entries = [&entries[..], &[source_override(4, 30)]].concat();
        let found = read(&entries);
        assert_eq!(found.io_apic, Some(IoApic { address: 0xfec1_0000, serial_input: 6 }));
    }
    assert_eq!(read(&[high]).io_apic, None);
}

#[test]
fn malformed_entry_ends_the_reading() {
    let good = apic(3, 1);
    let malformed: [&[u8]; 7] = [
        // No length; a length of 0 or 1, which would never end; one beyond the end of the table.
        &[0],
        &[0, 0, 0, 0, 1, 0, 0, 0],
        &[0, 1, 0, 0, 1, 0, 0, 0],
        &[5, 200, 0, 0],
        // Too short for their types.
        &[0, 7, 5, 5, 1, 0, 0],
        &[9, 8, 0, 0, 5, 0, 0, 0],
        &[1, 4, 0, 0],
    ];
    for bad in malformed {
        let entries = [&good[..], bad, &apic(4, 1)[..]].concat();
        // A lone first byte of an entry can only be at the end.
        let entries = if bad.len() == 1 { &entries[..9] } else { &entries };
        let found = Found::read(entries, LARGEST_X2APIC_ID);
        assert_eq!(found.apic_ids[..], [3], "{bad:?}");
        assert_eq!(found.malformed_at, Some(8), "{bad:?}");
    }
}

#[test]
fn unknown_entries_and_longer_ones_are_skipped() {
    let mut longer = apic(1, 1);
    longer[1] = 10;
    longer.extend([0xaa, 0xbb]);
    // Types that are reserved, for the firmware's maker, or of no interest; the shortest possible.
    let found = read(&[vec![0x7f, 2], vec![0x80, 4, 1, 2], longer, vec![0x10, 3, 9], apic(2, 1)]);
    assert_eq!(found.apic_ids[..], [1, 2]);
    assert_eq!(found.malformed_at, None);
}

proptest! {
    /// Whatever the bytes are: the reading ends, and invents nothing.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..600), xapic: bool) {
        let largest = if xapic { LARGEST_XAPIC_ID } else { LARGEST_X2APIC_ID };
        let found = Madt::<4>::read(&bytes, largest);
        prop_assert!(found.apic_ids.iter().all(|&id| id <= largest));
        prop_assert!(found.malformed_at.is_none_or(|at| at < bytes.len()));
    }
}
