//! Pins, roots, and the types that they take.

use super::*;

#[test]
fn a_tree_is_typed_to_its_leaves_and_freed_again() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    for (frame, kind) in [(L4, Kind::L4), (L3, Kind::L3), (L2, Kind::L2), (L1, Kind::L1)] {
        let info = world.info(frame).unwrap();
        assert_eq!((info.held_as(), info.type_count()), (Some(kind), 1));
        assert_eq!(info.is_pinned(), frame == L4);
    }
    let page = world.info(PAGE).unwrap();
    assert_eq!((page.held_as(), page.type_count()), (Some(Kind::Writable), 1));
    // The allocation, the read-only entry, the type.
    assert_eq!(page.references(), 3);
    assert_sound(world, &[]);

    unpin(world, L4);
    for frame in [L4, L3, L2, L1, PAGE] {
        let info = world.info(frame).unwrap();
        assert_eq!((info.held_as(), info.references()), (None, 1));
    }
    assert_sound(world, &[]);
}

#[test]
fn a_pin_with_a_writable_alias_is_refused() {
    // INV-ALIAS, from both sides.
    let world = fresh();
    world.platform().set(L1, 0, rw(L2));
    pin(world, Level::L1, L1).unwrap();
    let refused = refusal(pin(world, Level::L2, L2));
    assert_eq!(refused.cause, Cause::WritableAlias);
    assert_eq!((refused.frame, refused.wanted), (L2, Some(Kind::L2)));
    assert!(refused.is_alias());
    assert_eq!(refused.seen.unwrap().type_count(), 1);
    assert_eq!(refused.location, None);

    update(world, L1, 0, ro(L2)).unwrap();
    pin(world, Level::L2, L2).unwrap();
    let refused = refusal(update(world, L1, 0, rw(L2)));
    assert_eq!(refused.cause, Cause::TableInUse);
    assert_eq!(refused.location.unwrap().table, L1);
    assert_sound(world, &[]);
}

#[test]
fn an_alias_deep_in_the_tree_is_found_and_all_is_undone() {
    let world = fresh();
    tree(world);
    // The L1 maps the L3 above it writable.
    world.platform().set(L1, 300, rw(L3));
    let refused = refusal(pin(world, Level::L4, L4));
    assert_eq!((refused.cause, refused.frame), (Cause::TableInUse, L3));
    let location = refused.location.unwrap();
    assert_eq!((location.level, location.table, location.index), (Some(Level::L1), L1, slot(300)));
    assert_eq!(location.entry.get(), rw(L3));
    for frame in [L4, L3, L2, L1, PAGE] {
        assert_eq!(world.info(frame).unwrap().references(), 1, "{frame}");
        assert_eq!(world.info(frame).unwrap().held_as(), None, "{frame}");
    }
    assert_sound(world, &[]);
}

#[test]
fn a_table_that_maps_itself_writable_is_refused() {
    let world = fresh();
    world.platform().set(L1, 0, rw(L1));
    assert_eq!(cause(pin(world, Level::L1, L1)), Cause::TableInUse);
    world.platform().set(L1, 0, ro(L1));
    pin(world, Level::L1, L1).unwrap();
    assert_sound(world, &[]);
}

#[test]
fn a_type_lasts_while_anyone_holds_it() {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    unpin(world, L4);
    assert_eq!(world.info(L4).unwrap().held_as(), Some(Kind::L4));
    assert_sound(world, &[held(L4, RefKind::Root)]);
    // Pinning anew what is still held is allowed; twice is not.
    pin(world, Level::L4, L4).unwrap();
    assert_eq!(cause(pin(world, Level::L4, L4)), Cause::AlreadyPinned);
    unpin(world, L4);
    world.put_root_ref(A, L4, &mut Budget::unlimited());
    assert_eq!(world.info(L4).unwrap().held_as(), None);
    assert_sound(world, &[]);
}

#[test]
fn tables_of_the_wrong_level_are_refused() {
    // INV-TYPE
    let world = fresh();
    tree(world);
    pin(world, Level::L2, L2).unwrap();
    assert_eq!(cause(pin(world, Level::L1, L2)), Cause::WrongType);
    assert_eq!(cause(pin(world, Level::L3, L1)), Cause::WrongType);
    // An L4 that points to the L2.
    world.platform().set(L4, 0, rw(L2));
    let refused = refusal(pin(world, Level::L4, L4));
    assert_eq!((refused.cause, refused.frame), (Cause::WrongType, L2));
    assert_eq!(refused.location.unwrap().level, Some(Level::L4));
    assert_sound(world, &[]);
}

#[test]
fn a_table_shared_by_two_parents_is_typed_once_and_counted_twice() {
    let world = fresh();
    tree(world);
    let other = mfn(6);
    world.platform().set(other, 7, rw(L1));
    world.platform().set(other, 8, ro(L1));
    pin(world, Level::L2, L2).unwrap();
    pin(world, Level::L2, other).unwrap();
    assert_eq!(world.info(L1).unwrap().type_count(), 3);
    unpin(world, L2);
    assert_eq!(world.info(L1).unwrap().type_count(), 2);
    unpin(world, other);
    assert_eq!(world.info(L1).unwrap().held_as(), None);
    assert_sound(world, &[]);
}

#[test]
fn frames_of_other_domains_can_be_neither_pinned_nor_mapped() {
    let world = fresh();
    assert_eq!(cause(pin(world, Level::L1, mfn(16))), Cause::NotOwned);
    assert_eq!(cause(pin(world, Level::L1, mfn(30))), Cause::NotOwned);
    // Frame 0 was never given: the hypervisor's.
    assert_eq!(cause(pin(world, Level::L1, mfn(0))), Cause::NotOwned);
    for beyond in [32, 33, 1 << 40, u64::MAX] {
        assert_eq!(cause(pin(world, Level::L1, mfn(beyond))), Cause::NoSuchFrame);
    }
    for value in [ro(mfn(16)), rw(mfn(16)), ro(mfn(0)), rw(mfn(30))] {
        world.platform().set(L1, 0, value);
        assert_eq!(cause(pin(world, Level::L1, L1)), Cause::NotOwned);
        world.platform().set(L2, 0, value);
        assert_eq!(cause(pin(world, Level::L2, L2)), Cause::NotOwned);
    }
    assert_eq!(world.info(mfn(16)).unwrap().references(), 1);
    assert_sound(world, &[]);
}

#[test]
fn unpinning_an_unpinned_frame_is_refused() {
    let world = fresh();
    tree(world);
    pin(world, Level::L2, L2).unwrap();
    let unpin = |frame| cause(world.unpin(A, frame, &mut Budget::unlimited()));
    assert_eq!(unpin(L1), Cause::NotPinned);
    assert_eq!(unpin(PAGE), Cause::NotPinned);
    assert_eq!(unpin(mfn(16)), Cause::NotOwned);
    assert_eq!(unpin(mfn(99)), Cause::NoSuchFrame);
    let foreign = world.unpin(B, L2, &mut Budget::unlimited());
    assert_eq!(cause(foreign), Cause::NotOwned);
    super::unpin(world, L2);
    assert_eq!(unpin(L2), Cause::NotPinned);
    assert_sound(world, &[]);
}

#[test]
fn linear_tables_may_only_be_read_only_and_to_themselves() {
    for level in [Level::L2, Level::L3, Level::L4] {
        let world = fresh();
        let (table, other) = (mfn(1), mfn(2));
        world.platform().set(table, 5, rw(table));
        assert_eq!(cause(pin(world, level, table)), Cause::LinearNotAllowed);
        world.platform().set(table, 5, ro(table));
        pin(world, level, table).unwrap();
        assert_eq!(world.info(table).unwrap().type_count(), 1);
        // XSA-182: not by the fast path either.
        assert_eq!(cause(update(world, table, 5, rw(table))), Cause::LinearNotAllowed);
        update(world, table, 6, ro(table) | AD).unwrap();
        // Another table of the level, read-only or not.
        pin(world, level, other).unwrap();
        for value in [ro(other), rw(other)] {
            assert_eq!(cause(update(world, table, 7, value)), Cause::LinearNotAllowed);
        }
        assert_sound(world, &[]);
        unpin(world, table);
        assert_eq!(world.info(table).unwrap().references(), 1);
        assert_sound(world, &[]);
    }
}

#[test]
fn linear_roots_can_be_refused_altogether() {
    let world = two_domains(Setup { refuse_linear_roots: true, ..Setup::default() });
    world.platform().set(L4, 5, ro(L4));
    assert_eq!(cause(pin(world, Level::L4, L4)), Cause::LinearNotAllowed);
    world.platform().set(L4, 5, 0);
    pin(world, Level::L4, L4).unwrap();
    assert_eq!(cause(update(world, L4, 5, ro(L4))), Cause::LinearNotAllowed);
    world.platform().set(L3, 5, ro(L3));
    pin(world, Level::L3, L3).unwrap();
    assert_sound(world, &[]);
}

#[test]
fn root_slots_beside_the_hypervisors_are_the_guests() {
    let world = fresh();
    world.platform().set(L4, 255, rw(L3));
    world.platform().set(L4, 272, rw(L3));
    pin(world, Level::L4, L4).unwrap();
    assert_eq!(world.info(L3).unwrap().type_count(), 2);
    assert_sound(world, &[]);
}

#[test]
fn an_l1_of_512_writable_pages_of_one_frame_counts_them_all() {
    let world = fresh();
    for index in 0..512 {
        world.platform().set(L1, index, if index % 2 == 0 { rw(PAGE) } else { ro(PAGE) });
    }
    pin(world, Level::L1, L1).unwrap();
    let info = world.info(PAGE).unwrap();
    assert_eq!((info.type_count(), info.references()), (256, 1 + 256 + 1));
    unpin(world, L1);
    assert_eq!(world.info(PAGE).unwrap().references(), 1);
    assert_sound(world, &[]);
}
