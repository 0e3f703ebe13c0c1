//! Which entries may be, at which level (`INV-ENTRY`).

use super::*;
use crate::entry::target;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};

/// The cause with which an L1 entry to a good frame plus `bits` is refused.
fn leaf_with(world: &World, bits: u64) -> Option<Cause> {
    world.platform().set(L1, 9, ro(PAGE) | bits);
    let pinned = pin(world, Level::L1, L1);
    if pinned.is_ok() {
        unpin(world, L1);
    }
    pinned.err().map(|stop| cause(Err::<(), _>(stop)))
}

/// The same for an L2 entry.
fn upper_with(world: &World, bits: u64) -> Option<Cause> {
    world.platform().set(L2, 9, ro(L1) | bits);
    let pinned = pin(world, Level::L2, L2);
    if pinned.is_ok() {
        unpin(world, L2);
    }
    pinned.err().map(|stop| cause(Err::<(), _>(stop)))
}

#[test]
fn each_bit_of_an_l1_entry_is_accepted_or_refused() {
    let world = fresh();
    for bit in 0..64 {
        let bits = 1 << bit;
        let found = leaf_with(world, bits);
        match bit {
            // The caching flags too: the page isn't mapped otherwise.
            0..=11 | 52..=63 => assert_eq!(found, None, "bit {bit}"),
            // Frame 5 with one more address bit: another of A's, a free one, or none at all.
            12 | 14 => assert_eq!(found, None, "bit {bit}"),
            13 | 15 => assert_eq!(found, None, "bit {bit}"),
            16 => assert_eq!(found, Some(Cause::NotOwned), "bit {bit}"),
            17..40 => assert_eq!(found, Some(Cause::NoSuchFrame), "bit {bit}"),
            _ => assert_eq!(found, Some(Cause::ReservedBits(bits)), "bit {bit}"),
        }
    }
    assert_sound(world, &[]);
}

#[test]
fn each_flag_of_an_upper_entry_is_accepted_or_refused() {
    let world = fresh();
    for bit in (0..12).chain(40..64) {
        let bits = 1 << bit;
        let found = upper_with(world, bits);
        match bit {
            3 | 4 | 8 => {
                let flags = EntryFlags::from_bits_truncate(bits);
                assert_eq!(found, Some(Cause::ForbiddenFlags(flags)), "bit {bit}");
            }
            7 => assert_eq!(found, Some(Cause::SuperPage)),
            40..52 => assert_eq!(found, Some(Cause::ReservedBits(bits)), "bit {bit}"),
            _ => assert_eq!(found, None, "bit {bit}"),
        }
    }
    assert_sound(world, &[]);
}

#[test]
fn no_execute_needs_a_cpu_that_has_it() {
    let world = two_domains(Setup { nx: false, ..Setup::default() });
    let refused = Some(Cause::ForbiddenFlags(EntryFlags::NO_EXECUTE));
    assert_eq!(leaf_with(world, 1 << 63), refused);
    assert_eq!(upper_with(world, 1 << 63), refused);
}

#[test]
fn user_is_forced_on_and_global_off() {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    machine.set(L1, 0, PAGE.address() | P | RW | 1 << 8);
    machine.set(L2, 0, L1.address() | P | RW);
    pin(world, Level::L2, L2).unwrap();
    assert_eq!(machine.get(L1, 0), rw(PAGE));
    assert_eq!(machine.get(L2, 0), rw(L1));
    assert_sound(world, &[]);
}

#[test]
fn software_bits_round_trip() {
    let world = fresh();
    let bits = 0x7 << 9 | 0x7ff << 52;
    world.platform().set(L1, 3, ro(PAGE) | bits);
    pin(world, Level::L1, L1).unwrap();
    assert_eq!(world.platform().get(L1, 3), ro(PAGE) | bits);
    let read = world.platform().get(L1, 3);
    update(world, L1, 3, read).unwrap();
    assert_eq!(world.platform().get(L1, 3), read);
}

#[test]
fn entries_that_are_not_present_may_hold_anything() {
    let world = fresh();
    for (index, garbage) in
        [!P, 0xdead_beef_dead_beee, 1 << 63, mfn(16).address() | RW].into_iter().enumerate()
    {
        world.platform().set(L1, index, garbage);
        world.platform().set(L2, index, garbage);
    }
    pin(world, Level::L1, L1).unwrap();
    pin(world, Level::L2, L2).unwrap();
    update(world, L1, 7, !P).unwrap();
    assert_eq!(world.platform().get(L1, 0), !P);
    assert_sound(world, &[]);
}

/// Whether some live table has an entry that isn't present and names a frame: what a CPU with L1TF
/// reads through.
fn is_named_by_an_absent_entry(world: &World, frame: Mfn) -> bool {
    let tables = (0..world.frame_count()).map(Mfn::new);
    let mut live = tables.filter(|&table| {
        let info = world.info(table).unwrap();
        info.kind().level().is_some() && info.state() == State::Validated
    });
    live.any(|table| {
        (0..512).any(|slot| {
            let raw = world.platform().get(table, slot);
            raw & P == 0 && target(raw) == frame
        })
    })
}

#[test]
fn with_l1tf_no_live_table_names_a_frame_that_another_domain_has() {
    let world = two_domains(Setup { l1tf: true, ..Setup::default() });
    let absent = PAGE.address() | RW;
    // While the frame is one's own, by a table that is made and by one that is changed.
    world.platform().set(L1, 3, absent);
    let _ = pin(world, Level::L1, L1);
    world.platform().set(L1, 3, 0);
    let _ = pin(world, Level::L1, L1);
    let _ = update(world, L1, 4, absent);
    // Nothing refers to it, so it may go to somebody else.
    world.release(PAGE, A).unwrap();
    world.assign(PAGE, B).unwrap();
    assert!(!is_named_by_an_absent_entry(world, PAGE));
    assert_sound(world, &[]);
}

#[test]
fn with_l1tf_absent_entries_may_name_no_memory() {
    let world = two_domains(Setup { l1tf: true, ..Setup::default() });
    let machine = world.platform();
    let inverted = !(PAGE.address()) & ENTRY_ADDRESS;
    let last = mfn(world.frame_count() + machine::FIRMWARE_FRAMES - 1);
    // Zero; beyond all memory; what Linux stores for a page that may not be touched.
    let harmless =
        [0, RW, 1 << 63, 1 << 39, last.address() + PAGE_SIZE, inverted, inverted | RW | US];
    for (index, value) in harmless.into_iter().enumerate() {
        machine.set(L1, index, value);
        machine.set(L2, index, value);
    }
    pin(world, Level::L1, L1).unwrap();
    update(world, L1, 7, inverted).unwrap();
    // Own, another domain's, a free one, the firmware's.
    for named in [PAGE, mfn(16), mfn(30), last] {
        // With address bits that the CPU may or may not look at.
        for above in [0, 1 << 40, 1 << 51, 0xfff << 40] {
            let value = named.address() | above | RW;
            let refused = refusal(update(world, L1, 8, value));
            assert_eq!((refused.cause, refused.frame), (Cause::AbsentNamesMemory, named));
            assert_eq!(refused.errno(), Errno::EINVAL);
            machine.set(L2, 8, value);
            assert_eq!(cause(pin(world, Level::L2, L2)), Cause::AbsentNamesMemory);
        }
    }
    assert_sound(world, &[]);
}

#[test]
fn without_l1tf_absent_entries_may_name_anything() {
    let world = fresh();
    world.platform().set(L1, 3, PAGE.address());
    pin(world, Level::L1, L1).unwrap();
    update(world, L1, 4, mfn(16).address()).unwrap();
    assert_sound(world, &[]);
}

/// The audit finds what got there by no call.
#[test]
fn the_audit_reports_entries_that_are_not_present_and_name_memory() {
    let world = two_domains(Setup { l1tf: true, ..Setup::default() });
    pin(world, Level::L1, L1).unwrap();
    let entry = PAGE.address();
    world.platform().set(L1, 6, entry);
    let mut scratch = std::vec![AuditCell::default(); world.frame_count() as usize];
    let mut found = Vec::new();
    world.audit(&mut scratch, [], &mut |wrong| found.push((wrong.frame, wrong.kind))).unwrap();
    assert_eq!(found, [(L1, DiscrepancyKind::BadEntry(slot(6), entry))]);
}

#[test]
fn the_hypervisors_slots_are_ignored_replaced_and_cleared() {
    // INV-RESERVED
    let world = fresh();
    let machine = world.platform();
    for index in 256..272 {
        machine.set(L4, index, rw(mfn(16)) | 1 << 7);
    }
    pin(world, Level::L4, L4).unwrap();
    for index in 256..272 {
        assert_eq!(machine.get(L4, index), machine::RESERVED_ENTRY);
        let kept = machine::RESERVED_ENTRY;
        for value in [0, kept, kept ^ AD, kept | 1 << 63, rw(L3)] {
            assert_eq!(cause(update(world, L4, index, value)), Cause::ReservedSlot);
        }
        assert_eq!(machine.get(L4, index), kept);
    }
    // Only in a root are they reserved.
    pin(world, Level::L3, L3).unwrap();
    update(world, L3, 256, rw(L2)).unwrap();
    unpin(world, L4);
    assert_eq!(machine.get(L4, 256), 0);
    assert_sound(world, &[]);
}
