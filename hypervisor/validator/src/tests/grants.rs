//! Frames that one domain grants to another: A's tree maps frames of B's.

use super::*;
use pinfold_abi::mmu::EntryFlags;

/// A frame of B's.
const THEIRS: Mfn = Mfn::new(16);

/// A's tree, pinned.
fn pinned() -> &'static World {
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    world
}

fn mapping(writable: bool) -> GrantMapping {
    let mut flags = EntryFlags::USER;
    flags.set(EntryFlags::WRITABLE, writable);
    GrantMapping { dom: A, table: L1, index: slot(7), owner: B, frame: THEIRS, flags }
}

fn unmapping(writable: bool) -> GrantUnmapping {
    let index = slot(7);
    GrantUnmapping { dom: A, table: L1, index, frame: THEIRS, writable, replacement: 0 }
}

fn map(world: &World, mapping: GrantMapping) -> Result<Updated, Error> {
    world.map_granted(&mapping, &mut Budget::unlimited())
}

fn unmap(world: &World, unmapping: GrantUnmapping) -> Result<Swap, Error> {
    let mut debt = FlushDebt::none();
    let swapped = world.unmap_granted(&unmapping, &mut Budget::unlimited(), &mut debt);
    debt.pay(world.platform());
    swapped
}

#[test]
fn a_granted_frame_is_mapped_and_unmapped() {
    for writable in [false, true] {
        let world = pinned();
        map(world, mapping(writable)).unwrap();
        let entry = world.platform().get(L1, 7);
        assert_eq!(entry, if writable { rw(THEIRS) } else { ro(THEIRS) });
        let info = world.info(THEIRS).unwrap();
        assert!(info.is_foreign_mapped());
        assert_eq!(info.held_as(), writable.then_some(Kind::Writable));
        assert_sound(world, &[]);
        assert_eq!(unmap(world, unmapping(!writable)), Ok(Swap::Differs(Entry::new(entry))));
        assert_sound(world, &[]);
        assert_eq!(unmap(world, unmapping(writable)), Ok(Swap::Done));
        assert_eq!(world.platform().get(L1, 7), 0);
        assert_eq!(unmap(world, unmapping(writable)), Ok(Swap::Differs(Entry::new(0))));
        assert_eq!(world.info(THEIRS).unwrap().references(), 1);
        assert_sound(world, &[]);
    }
}

/// The promise, between domains.
#[test]
fn a_table_is_never_granted_writable() {
    let world = pinned();
    world.pin(B, Level::L1, THEIRS, &mut Budget::unlimited()).unwrap();
    assert_eq!(cause(map(world, mapping(true))), Cause::TableInUse);
    map(world, mapping(false)).unwrap();
    assert_sound(world, &[]);
    world.unpin(B, THEIRS, &mut Budget::unlimited()).unwrap();
    assert_eq!(unmap(world, unmapping(false)), Ok(Swap::Done));

    map(world, mapping(true)).unwrap();
    let refused = refusal(world.pin(B, Level::L1, THEIRS, &mut Budget::unlimited()));
    assert_eq!(refused.cause, Cause::WritableAlias);
    // The evidence is in the other domain's tables.
    let mut found = None;
    let end = world.find_mappings(
        THEIRS,
        B,
        MappingFilter::Writable,
        SearchLimits::default(),
        &mut |mapping| {
            found = Some(mapping);
            core::ops::ControlFlow::Continue(())
        },
    );
    assert_eq!((end.found, end.cut_short), (1, false));
    let found = found.unwrap();
    assert_eq!((found.table, found.address), (L1, Some(page(7))));
    assert_eq!(world.owner(found.table), Some(A));
    assert!(matches!(world.release(THEIRS, B), Err(Refusal { cause: Cause::Busy, .. })));
    assert_sound(world, &[]);
}

/// `INV-FOREIGN`: the owner's CPUs are not all that must be flushed.
#[test]
fn a_foreign_mapped_frame_becomes_a_table_after_its_mapper_is_flushed() {
    let world = pinned();
    let machine = world.platform();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    map(world, mapping(true)).unwrap();
    machine.load(1, Some((A, L4)));
    machine.touch(1, page(7));
    assert!(machine.cpus[1].lock().unwrap().leaves.iter().any(|leaf| leaf.frame == THEIRS));
    // The mapper drops the mapping without a flush, by an ordinary update.
    update(world, L1, 7, 0).unwrap();
    assert!(machine.cpus[1].lock().unwrap().leaves.iter().any(|leaf| leaf.frame == THEIRS));
    world.pin(B, Level::L1, THEIRS, &mut Budget::unlimited()).unwrap();
    assert!(machine.cpus[1].lock().unwrap().leaves.is_empty(), "CPU 1 runs A, not B");
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

#[test]
fn a_foreign_mapped_frame_is_reallocated_after_its_mapper_is_flushed() {
    let world = pinned();
    let machine = world.platform();
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    map(world, mapping(false)).unwrap();
    machine.load(1, Some((A, L4)));
    machine.touch(1, page(7));
    update(world, L1, 7, 0).unwrap();
    world.release(THEIRS, B).unwrap();
    let third = DomId::new(3);
    world.assign(THEIRS, third).unwrap();
    assert!(machine.cpus[1].lock().unwrap().leaves.is_empty(), "CPU 1 runs A, not B");
    // And it is nobody's loan any more.
    assert!(!world.info(THEIRS).unwrap().is_foreign_mapped());
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

#[test]
fn only_frames_of_the_granter_can_be_mapped() {
    let world = pinned();
    let of = |frame| GrantMapping { frame, ..mapping(true) };
    assert_eq!(cause(map(world, of(PAGE))), Cause::NotOwned);
    assert_eq!(cause(map(world, of(mfn(30)))), Cause::NotOwned);
    assert_eq!(cause(map(world, of(mfn(1 << 20)))), Cause::NoSuchFrame);
    // A page of the hypervisor's that B may map is not B's to give.
    world.share(mfn(30), B).unwrap();
    assert_eq!(cause(map(world, of(mfn(30)))), Cause::SharedFrame);
    let flags = EntryFlags::NO_CACHE | EntryFlags::WRITABLE;
    let uncached = GrantMapping { flags, ..mapping(true) };
    assert!(matches!(cause(map(world, uncached)), Cause::ForbiddenFlags(_)));
    assert_sound(world, &[]);
}

#[test]
fn only_live_leaf_tables_of_the_mapper_map_grants() {
    let world = pinned();
    for table in [L2, PAGE, mfn(17), mfn(30)] {
        let elsewhere = GrantMapping { table, ..mapping(true) };
        assert_eq!(cause(map(world, elsewhere)), Cause::NotATable, "{table}");
        let elsewhere = GrantUnmapping { table, ..unmapping(true) };
        assert_eq!(cause(unmap(world, elsewhere)), Cause::NotATable, "{table}");
    }
    assert_sound(world, &[]);
}

/// What was there is dropped; what takes its place is held.
#[test]
fn the_slot_is_exchanged() {
    let world = pinned();
    let own = mfn(9);
    update(world, L1, 7, rw(own)).unwrap();
    let replaced = map(world, mapping(true)).unwrap();
    assert_eq!(replaced.previous, Entry::new(rw(own)));
    assert_eq!(world.info(own).unwrap().references(), 1);
    let replacement = GrantUnmapping { replacement: rw(own), ..unmapping(true) };
    assert_eq!(unmap(world, replacement), Ok(Swap::Done));
    assert_eq!(world.info(own).unwrap().held_as(), Some(Kind::Writable));
    // Nothing that isn't its own takes a grant's place.
    map(world, mapping(true)).unwrap();
    let replacement = GrantUnmapping { replacement: rw(mfn(17)), ..unmapping(true) };
    assert_eq!(cause(unmap(world, replacement)), Cause::NotOwned);
    assert_sound(world, &[]);
}

/// A table that maps a granted frame can be taken apart, but not put together again.
#[test]
fn a_grant_does_not_survive_validation() {
    let world = pinned();
    map(world, mapping(true)).unwrap();
    unpin(world, L4);
    assert_eq!(world.info(THEIRS).unwrap().references(), 1);
    assert_sound(world, &[]);
    assert_eq!(cause(pin(world, Level::L4, L4)), Cause::NotOwned);
    assert_sound(world, &[]);
}

/// An entry that maps a granted frame can lose its reference, but not change it.
#[test]
fn an_update_cannot_extend_a_grant() {
    let world = pinned();
    map(world, mapping(false)).unwrap();
    assert_eq!(cause(update(world, L1, 7, rw(THEIRS))), Cause::NotOwned);
    assert_eq!(cause(update(world, L1, 8, ro(THEIRS))), Cause::NotOwned);
    // Harmless bits are the mapper's.
    update(world, L1, 7, ro(THEIRS) | AD).unwrap();
    assert_eq!(unmap(world, unmapping(false)), Ok(Swap::Done));
    assert_sound(world, &[]);
}

/// A domain dies while another has its frame: the frame goes last.
#[test]
fn a_granted_frame_outlives_its_granter() {
    let world = pinned();
    map(world, mapping(true)).unwrap();
    world.relinquish(B, &mut RelinquishProgress::new(), &mut Budget::unlimited()).unwrap();
    let mut next = mfn(0);
    while let Some(frame) = world.next_owned(B, next) {
        next = mfn(frame.get() + 1);
        assert_eq!(world.release(frame, B).is_ok(), frame != THEIRS);
    }
    assert_sound(world, &[]);
    assert_eq!(unmap(world, unmapping(true)), Ok(Swap::Done));
    world.release(THEIRS, B).unwrap();
    assert_eq!(world.next_owned(B, mfn(0)), None);
    assert_sound(world, &[]);
}

/// The other way round: the borrower's tables go, and with them what they held.
#[test]
fn a_dying_mapper_releases_granted_frames() {
    let world = pinned();
    map(world, mapping(true)).unwrap();
    world.relinquish(A, &mut RelinquishProgress::new(), &mut Budget::unlimited()).unwrap();
    assert_eq!(world.info(THEIRS).unwrap().references(), 1);
    world.release(THEIRS, B).unwrap();
    assert_sound(world, &[]);
}

#[test]
fn a_frame_with_a_readable_reference_cannot_be_released() {
    let world = pinned();
    world.get_readable_ref(A, L1).unwrap();
    assert_sound(world, &[held(L1, RefKind::Readable)]);
    assert!(world.get_readable_ref(A, THEIRS).is_err());
    unpin(world, L4);
    assert!(world.release(L1, A).is_err());
    world.put_readable_ref(A, L1);
    world.release(L1, A).unwrap();
    assert_sound(world, &[]);
}
