//! Which entries may be, at which level (`INV-ENTRY`).

use super::*;
use pinfold_abi::mmu::EntryFlags;

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
fn each_bit_of_a_leaf_is_judged() {
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
fn each_flag_of_an_upper_entry_is_judged() {
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
    machine.set(L1, 0, PAGE.get() << 12 | P | RW | 1 << 8);
    machine.set(L2, 0, L1.get() << 12 | P | RW);
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
fn absent_entries_hold_anything() {
    let world = fresh();
    for (index, garbage) in
        [!P, 0xdead_beef_dead_beee, 1 << 63, 16 << 12 | RW].into_iter().enumerate()
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

#[test]
fn with_l1tf_absent_entries_may_not_name_foreign_frames() {
    let world = two_domains(Setup { l1tf: true, ..Setup::default() });
    let machine = world.platform();
    // Own, beyond all RAM, zero: harmless.
    for (index, value) in [PAGE.get() << 12, 0x8_0000_0000_0000, 0, RW].into_iter().enumerate() {
        machine.set(L1, index, value);
        machine.set(L2, index, value);
    }
    pin(world, Level::L1, L1).unwrap();
    // Another domain's, a free one.
    for foreign in [mfn(16), mfn(30)] {
        let value = foreign.get() << 12;
        let refused = refusal(update(world, L1, 4, value));
        assert_eq!((refused.cause, refused.frame), (Cause::ForeignHostFrame, foreign));
        machine.set(L2, 4, value);
        assert_eq!(cause(pin(world, Level::L2, L2)), Cause::ForeignHostFrame);
    }
    assert_sound(world, &[]);
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
