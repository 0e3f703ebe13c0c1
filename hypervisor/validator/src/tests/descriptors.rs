//! Descriptor pages.

use super::*;

/// A flat descriptor of a type (bits 40..45, the highest says code or data) and DPL.
const fn descriptor(kind: u64, dpl: u64) -> u64 {
    0x00af_0000_0000_ffff | kind << 40 | dpl << 45 | 1 << 47
}

const DPL3: u64 = 3 << 45;

#[test]
fn every_descriptor_type_is_accepted_or_refused() {
    let world = fresh();
    for dpl in 0..4 {
        for kind in 0..32 {
            let raw = descriptor(kind, dpl);
            let checked = world.check_descriptor(A, raw);
            match kind {
                // Code and data.
                16.. => assert_eq!(checked, Ok(raw | DPL3)),
                // Call gate: made unusable.
                12 => assert_eq!(checked, Ok(raw & !DPL3 | 3 << 16)),
                _ => assert_eq!(checked.unwrap_err().cause, Cause::BadDescriptor(raw)),
            }
            let absent = raw & !(1 << 47);
            assert_eq!(world.check_descriptor(A, absent), Ok(absent));
        }
    }
}

#[test]
fn a_descriptor_page_is_checked_and_brought_into_form() {
    let world = fresh();
    let page = mfn(6);
    world.platform().set(page, 3, descriptor(0x1a, 0));
    world.platform().set(page, 511, descriptor(0x0c, 3));
    world.get_descriptor_ref(A, page).unwrap();
    world.get_descriptor_ref(A, page).unwrap();
    assert_eq!(world.platform().get(page, 3), descriptor(0x1a, 3));
    assert_eq!(world.platform().get(page, 511), descriptor(0x0c, 0) | 3 << 16);
    let twice = [held(page, RefKind::Descriptors); 2];
    assert_sound(world, &twice);
    // In use: neither writable nor a table.
    world.platform().set(L1, 0, rw(page));
    assert_eq!(cause(pin(world, Level::L1, L1)), Cause::TableInUse);
    assert_eq!(cause(pin(world, Level::L1, page)), Cause::WrongType);
    world.put_descriptor_ref(A, page);
    assert_eq!(world.get_writable_ref(A, page).unwrap_err().cause, Cause::TableInUse);
    world.put_descriptor_ref(A, page);
    pin(world, Level::L1, L1).unwrap();
    assert_eq!(world.get_descriptor_ref(A, page).unwrap_err().cause, Cause::WritableAlias);
    assert_sound(world, &[]);
}

#[test]
fn one_bad_descriptor_refuses_the_page() {
    let world = fresh();
    let page = mfn(6);
    world.platform().set(page, 510, descriptor(0x09, 3));
    let refused = world.get_descriptor_ref(A, page).unwrap_err();
    assert_eq!(refused.cause, Cause::BadDescriptor(descriptor(0x09, 3)));
    assert_eq!(refused.location.unwrap().index, slot(510));
    assert_eq!(world.info(page).unwrap().held_as(), None);
    assert_eq!(world.get_descriptor_ref(A, mfn(16)).unwrap_err().cause, Cause::NotOwned);
    assert_sound(world, &[]);
}

#[test]
fn single_descriptors_change_in_descriptor_pages_and_in_writable_ones() {
    let world = fresh();
    let (page, plain) = (mfn(6), mfn(7));
    world.get_descriptor_ref(A, page).unwrap();
    for frame in [page, plain] {
        world.update_descriptor(A, frame, 5, descriptor(0x12, 0)).unwrap();
        assert_eq!(world.platform().get(frame, 5), descriptor(0x12, 3));
        let refused = world.update_descriptor(A, frame, 5, descriptor(0x0e, 3)).unwrap_err();
        assert_eq!(refused.cause, Cause::BadDescriptor(descriptor(0x0e, 3)));
        assert_eq!(world.platform().get(frame, 5), descriptor(0x12, 3));
        let refused = world.update_descriptor(A, frame, 512, 0).unwrap_err();
        assert_eq!(refused.cause, Cause::BadSlot(512));
    }
    pin(world, Level::L1, L1).unwrap();
    let refused = world.update_descriptor(A, L1, 0, 0).unwrap_err();
    assert_eq!(refused.cause, Cause::TableInUse);
    let refused = world.update_descriptor(A, mfn(16), 0, 0).unwrap_err();
    assert_eq!(refused.cause, Cause::NotOwned);
    assert_sound(world, &[held(page, RefKind::Descriptors)]);
}
