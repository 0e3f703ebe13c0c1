//! Changing one entry.

use super::*;
use pinfold_abi::mmu::EntryFlags;

fn pinned_tree() -> &'static World {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    world
}

#[test]
fn references_follow_the_entry() {
    let world = pinned_tree();
    let other = mfn(6);
    let updated = update(world, L1, 0, ro(other)).unwrap();
    assert_eq!((updated.previous.get(), updated.level), (rw(PAGE), Some(Level::L1)));
    assert_eq!(world.info(PAGE).unwrap().held_as(), None);
    assert_eq!(world.info(other).unwrap().references(), 2);
    // Same frame, other rights: through every order.
    for value in [rw(other), ro(other), 0, rw(other), 0] {
        update(world, L1, 0, value).unwrap();
        assert_eq!(world.platform().get(L1, 0), value);
        assert_sound(world, &[]);
    }
    assert_eq!(world.info(other).unwrap().references(), 1);
}

#[test]
fn a_refused_update_leaves_the_entry_and_the_counts() {
    let world = pinned_tree();
    let before = world.info(PAGE);
    for value in [rw(L1), rw(mfn(16)), ro(mfn(99)), rw(PAGE) | 1 << 4, ro(PAGE) | 1 << 50] {
        assert!(update(world, L1, 0, value).is_err());
        assert_eq!(world.platform().get(L1, 0), rw(PAGE));
        assert_eq!(world.info(PAGE), before);
    }
    assert_sound(world, &[]);
}

#[test]
fn only_harmless_bits_take_the_fast_path() {
    // INV-FAST; XSA-148: PSE and RW got in through a fast path.
    let world = pinned_tree();
    let harmless: u64 = AD | 0x7 << 9 | 0x7ff << 52 | 1 << 63;
    for bit in (0..12).chain(52..64).filter(|bit| harmless & 1 << bit != 0) {
        let before = (world.info(PAGE), world.info(L1));
        update(world, L1, 0, rw(PAGE) | 1 << bit).unwrap();
        update(world, L2, 0, rw(L1) | 1 << bit).unwrap();
        assert_eq!((world.info(PAGE), world.info(L1)), before);
    }
    for (bit, table, value) in [(3, L1, rw(PAGE)), (4, L1, rw(PAGE)), (7, L1, rw(PAGE))] {
        let flags = EntryFlags::from_bits_truncate(1 << bit);
        let refused = cause(update(world, table, 0, value | 1 << bit));
        let wanted = pinfold_abi::mmu::MemoryType::of(flags);
        let present = FrameMemType::Uniform(pinfold_abi::mmu::MemoryType::WriteBack);
        assert_eq!(refused, Cause::CacheAlias { wanted, present });
    }
    for (table, value) in [(L2, rw(L1)), (L3, rw(L2)), (L4, rw(L3))] {
        assert_eq!(cause(update(world, table, 0, value | 1 << 7)), Cause::SuperPage);
        let global = EntryFlags::GLOBAL;
        let refused = cause(update(world, table, 0, value | 1 << 8));
        assert_eq!(refused, Cause::ForbiddenFlags(global));
    }
    assert_sound(world, &[]);
}

#[test]
fn user_and_global_written_back_are_accepted() {
    let world = pinned_tree();
    update(world, L1, 0, rw(PAGE) & !US).unwrap();
    assert_eq!(world.platform().get(L1, 0), rw(PAGE));
    update(world, L1, 0, rw(PAGE) | 1 << 8).unwrap();
    assert_eq!(world.platform().get(L1, 0), rw(PAGE));
}

#[test]
fn accessed_and_dirty_are_kept_when_asked() {
    let world = pinned_tree();
    world.platform().set(L1, 0, rw(PAGE) | AD);
    let kept = Update { preserve_ad: true, ..change(L1, 0, rw(PAGE)) };
    world.update(kept, &mut Budget::unlimited()).unwrap();
    assert_eq!(world.platform().get(L1, 0), rw(PAGE) | AD);
    // On the full path too.
    let kept = Update { value: ro(mfn(6)), ..kept };
    world.update(kept, &mut Budget::unlimited()).unwrap();
    assert_eq!(world.platform().get(L1, 0), ro(mfn(6)) | AD);
    update(world, L1, 0, ro(mfn(6))).unwrap();
    assert_eq!(world.platform().get(L1, 0), ro(mfn(6)));
    assert_sound(world, &[]);
}

#[test]
fn a_new_subtree_is_validated_and_the_old_one_freed() {
    let world = pinned_tree();
    let (l1, page) = (mfn(6), mfn(7));
    world.platform().set(l1, 3, rw(page));
    update(world, L2, 0, rw(l1)).unwrap();
    assert_eq!(world.info(l1).unwrap().held_as(), Some(Kind::L1));
    assert_eq!(world.info(L1).unwrap().held_as(), None);
    assert_eq!(world.info(PAGE).unwrap().held_as(), None);
    assert_sound(world, &[]);
    // One that maps itself writable isn't taken.
    world.platform().set(L1, 9, rw(L1));
    let refused = refusal(update(world, L2, 0, rw(L1)));
    assert_eq!(refused.location.unwrap().level, Some(Level::L1));
    assert_eq!(world.info(l1).unwrap().held_as(), Some(Kind::L1));
    assert_sound(world, &[]);
}

#[test]
fn a_store_to_a_writable_frame_is_plain() {
    let world = pinned_tree();
    // Mapped writable; never typed; shared by the hypervisor.
    let shared = mfn(30);
    world.share(shared, A).unwrap();
    for frame in [PAGE, mfn(8), shared] {
        let before = world.info(frame);
        let updated = update(world, frame, 9, 0xdead_0000_0000_0fff).unwrap();
        assert_eq!((updated.level, updated.previous.get()), (None, 0));
        assert_eq!(world.platform().get(frame, 9), 0xdead_0000_0000_0fff);
        let after = world.info(frame);
        assert_eq!(after.map(|i| i.references()), before.map(|i| i.references()));
        assert_eq!(after.map(|i| i.type_count()), before.map(|i| i.type_count()));
    }
    // Not to others' frames, nor descriptor pages.
    assert_eq!(cause(update(world, mfn(16), 0, 1)), Cause::NotOwned);
    assert_eq!(cause(update(world, mfn(77), 0, 1)), Cause::NoSuchFrame);
    world.get_descriptor_ref(A, mfn(9)).unwrap();
    assert_eq!(cause(update(world, mfn(9), 0, 1)), Cause::TableInUse);
    assert_sound(world, &[held(mfn(9), RefKind::Descriptors)]);
}

#[test]
fn a_plain_store_needs_no_flush() {
    let world = fresh();
    world.platform().load(0, None);
    update(world, L1, 0, ro(PAGE)).unwrap();
    pin(world, Level::L1, L1).unwrap();
    assert_eq!(world.platform().flushes.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn an_entry_cannot_map_a_frame_of_another_domain() {
    let world = pinned_tree();
    let foreign = Update { target_owner: B, ..change(L1, 0, rw(mfn(16))) };
    let refused = world.update(foreign, &mut Budget::unlimited());
    assert_eq!(cause(refused), Cause::ForeignMapping);
    let foreign = Update { table_owner: B, target_owner: B, dom: B, ..change(L1, 0, 0) };
    let refused = world.update(foreign, &mut Budget::unlimited());
    assert_eq!(cause(refused), Cause::NotOwned);
    assert_sound(world, &[]);
}

#[test]
fn an_emulated_store_replaces_only_what_it_read() {
    let world = pinned_tree();
    let store = |expected, new| {
        world.update_l1_cas(A, L1, slot(0), expected, new, &mut Budget::unlimited())
    };
    assert_eq!(store(rw(PAGE), ro(PAGE)), Ok(Swap::Done));
    assert_eq!(store(rw(PAGE), 0), Ok(Swap::Differs(Entry::new(ro(PAGE)))));
    assert_eq!(store(ro(PAGE), ro(PAGE) | AD), Ok(Swap::Done));
    assert_eq!(cause(store(ro(PAGE) | AD, rw(L1))), Cause::TableInUse);
    assert_eq!(world.platform().get(L1, 0), ro(PAGE) | AD);
    assert_eq!(store(ro(PAGE) | AD, 0), Ok(Swap::Done));
    assert_eq!(store(0, rw(mfn(6))), Ok(Swap::Done));
    assert_sound(world, &[]);
    // What is no L1 table is none of its business.
    for table in [L2, PAGE, mfn(9), mfn(16)] {
        let refused = world.update_l1_cas(A, table, slot(0), 0, 0, &mut Budget::unlimited());
        assert_eq!(cause(refused), Cause::NotATable);
    }
}

#[test]
fn walks_find_leaves_and_say_where_they_end() {
    let world = pinned_tree();
    let leaf = world.walk(L4, Vaddr::new(0x1fff)).unwrap();
    assert_eq!((leaf.table, leaf.index, leaf.entry.get()), (L1, slot(1), ro(PAGE)));
    assert!(!leaf.writable);
    assert!(world.walk(L4, Vaddr::new(0)).unwrap().writable);
    update(world, L3, 0, ro(L2)).unwrap();
    assert!(!world.walk(L4, Vaddr::new(0)).unwrap().writable);
    // An absent leaf is a leaf; an absent table is an end.
    assert!(!world.walk(L4, Vaddr::new(0x5000)).unwrap().entry.is_present());
    let end = world.walk(L4, Vaddr::new(0x20_0000)).unwrap_err();
    assert!(matches!(end, WalkError::NotPresent { level: Level::L2, table: L2, .. }));
    let walk = |address| world.walk(L4, Vaddr::new(address)).unwrap_err();
    assert_eq!(walk(0x8000_0000_0000), WalkError::NonCanonical);
    assert_eq!(walk(0xffff_8000_0000_0000), WalkError::Reserved);
    assert_eq!(walk(0xffff_87ff_ffff_f000), WalkError::Reserved);
    let none = world.walk(PAGE, Vaddr::new(0)).unwrap_err();
    assert_eq!(none, WalkError::NotATable { level: Level::L4, frame: PAGE });
    update(world, L4, 1, ro(L4)).unwrap();
    let linear = world.walk(L4, Vaddr::new(1 << 39)).unwrap_err();
    assert_eq!(linear, WalkError::NotATable { level: Level::L3, frame: L4 });
}

#[test]
fn a_plain_store_keeps_no_bit_of_the_old_word() {
    let world = fresh();
    world.platform().set(PAGE, 7, AD);
    let store = Update { preserve_ad: true, ..change(PAGE, 7, 0x1000) };
    world.update(store, &mut Budget::unlimited()).unwrap();
    assert_eq!(world.platform().read_entry(PAGE, slot(7)), 0x1000);
}
