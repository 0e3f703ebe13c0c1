//! References that drop themselves.

use super::*;

#[test]
fn a_dropped_guard_leaves_the_frame_as_it_was() {
    let world = fresh();
    let before = world.info(PAGE).unwrap();
    {
        let readable = ReadableRef::get(world, A, PAGE).unwrap();
        let writable = WritableRef::get(world, A, PAGE).unwrap();
        assert_sound(world, &[readable.external(), writable.external()]);
        assert_eq!(
            cause(world.pin(A, Level::L1, PAGE, &mut Budget::new(512))),
            Cause::WritableAlias
        );
        assert_eq!(world.release(PAGE, A).unwrap_err().cause, Cause::Busy);
    }
    let after = world.info(PAGE).unwrap();
    assert_eq!((after.references(), after.held_as()), (before.references(), None));
    world.pin(A, Level::L1, PAGE, &mut Budget::new(512)).unwrap();
    assert_sound(world, &[]);
}

#[test]
fn a_guard_of_a_frame_that_is_refused_drops_nothing() {
    let world = fresh();
    let foreign = mfn(16);
    assert_eq!(WritableRef::get(world, A, foreign).unwrap_err().cause, Cause::NotOwned);
    assert_sound(world, &[]);
}

#[test]
fn a_descriptor_page_is_one_until_its_last_guard_goes() {
    let world = fresh();
    let first = DescriptorRef::get(world, A, PAGE).unwrap();
    let second = DescriptorRef::get(world, A, PAGE).unwrap();
    drop(first);
    assert_eq!(world.info(PAGE).unwrap().held_as(), Some(Kind::Descriptor));
    assert_sound(world, &[second.external()]);
    drop(second);
    assert_eq!(world.info(PAGE).unwrap().held_as(), None);
}

#[test]
fn a_dropped_root_is_taken_apart_by_the_next_operation() {
    let world = fresh();
    tree(world);
    let root = RootRef::get(world, A, L4, &mut Budget::unlimited()).unwrap();
    assert_sound(world, &[root.external()]);
    drop(root);
    assert_eq!(world.info(L4).unwrap().state(), State::Partial);
    assert_sound(world, &[]);
    // Any operation of the domain's will do.
    pin(world, Level::L1, mfn(9)).unwrap();
    assert_eq!(world.info(L4).unwrap().held_as(), None);
    assert_sound(world, &[]);
}

#[test]
fn a_root_that_is_put_with_a_budget_is_taken_apart_at_once() {
    let world = fresh();
    tree(world);
    let root = RootRef::get(world, A, L4, &mut Budget::unlimited()).unwrap();
    root.put(&mut Budget::unlimited());
    assert_eq!(world.info(L4).unwrap().held_as(), None);
    assert_sound(world, &[]);
}
