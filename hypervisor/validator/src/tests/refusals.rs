//! What refusals say.

use super::*;
use pinfold_abi::errno::Errno;
use std::format;

fn alias() -> Refusal {
    let world = fresh();
    world.platform().set(L1, 0, rw(L2));
    world.platform().set(L1, 1, rw(L2));
    pin(world, Level::L1, L1).unwrap();
    refusal(pin(world, Level::L2, L2))
}

#[test]
fn a_refused_alias_is_reported_in_words_and_fields() {
    let refused = alias();
    assert_eq!(
        format!("{refused}"),
        "pin_l2: frame 0x3 can't be an L2 table while it has 2 writable mappings"
    );
    assert_eq!(
        format!("{}", refused.evidence()),
        "op=pin_l2 dom=1 frame=0x3 cause=writable_alias wanted=l2 owner=1 seen=writable \
         state=validated count=2 refs=2 pinned=0"
    );
    assert_eq!(refused.errno(), Errno::EINVAL);
}

#[test]
fn a_refused_entry_is_reported_with_its_location() {
    let world = fresh();
    tree(world);
    pin(world, Level::L2, L2).unwrap();
    let refused = refusal(update(world, L1, 7, rw(L2)));
    assert_eq!(
        format!("{refused}"),
        "update: frame 0x3 can't be a writable page while it is an L2 table (1 references, \
         pinned), wanted by entry 7 of L1 table 0x4 (0x0000000000003007)"
    );
    let refused = refusal(update(world, L2, 7, rw(L1) | 1 << 4));
    assert_eq!(
        format!("{refused}"),
        "update: flags 0x10 may not be set at this level (NO_CACHE), wanted by entry 7 of L2 \
         table 0x3 (0x0000000000004017)"
    );
    assert!(format!("{}", refused.evidence()).ends_with(
        "cause=forbidden_flags bits=0x10 level=2 table=0x3 index=7 entry=0x0000000000004017"
    ));
}

#[test]
fn fields_read_back_as_a_record() {
    use pinfold_abi::record::Record;
    let line = format!("[   0.000001] d1v0 ALIAS id=1 {}", alias().evidence());
    let record = Record::parse(&line).unwrap();
    assert_eq!(record.field("op"), Some("pin_l2"));
    assert_eq!(record.number("frame"), Some(3));
    assert_eq!(record.number("count"), Some(2));
}

#[test]
fn errors_are_numbered_as_measured_on_xen() {
    // docs/abi-answers.md
    let world = fresh();
    tree(world);
    pin(world, Level::L4, L4).unwrap();
    let number = |result| refusal::<Updated>(result).errno();
    for (key, result, errno) in [
        ("update.l1.rw_of_live_l1", update(world, L1, 9, rw(L1)), Errno::EBUSY),
        ("update.l1.hypervisor_frame_ro", update(world, L1, 9, ro(mfn(0))), Errno::EBUSY),
        ("update.l1.hypervisor_frame_rw", update(world, L1, 9, rw(mfn(0))), Errno::EBUSY),
        ("entry.l1.update_refused_address", update(world, L1, 9, ro(PAGE) | 1 << 44), Errno::EPERM),
        ("update.l1.no_frame", update(world, L1, 9, ro(mfn(99))), Errno::EPERM),
        ("va_mapping.entry_all_ones", update(world, L1, 9, u64::MAX), Errno::EINVAL),
        ("update.l2.to_writable_frame", update(world, L2, 9, rw(PAGE)), Errno::EINVAL),
        ("update.l2.to_itself_rw", update(world, L2, 9, rw(L2)), Errno::EINVAL),
        ("update.l2.superpage", update(world, L2, 9, rw(L1) | 1 << 7), Errno::EINVAL),
        ("update.slot_256", update(world, L4, 256, 0), Errno::EINVAL),
        ("update.hypervisor_frame", update(world, mfn(0), 0, 0), Errno::EINVAL),
        ("update.beyond_memory", update(world, mfn(99), 0, 0), Errno::EINVAL),
    ] {
        assert_eq!(number(result), errno, "{key}");
    }
    let number = |result| refusal::<()>(result).errno();
    assert_eq!(number(pin(world, Level::L4, L4)), Errno::EINVAL, "pin.l4.again");
    assert_eq!(number(pin(world, Level::L2, L1)), Errno::EINVAL, "pin.l2.of_pinned_l1");
    assert_eq!(number(pin(world, Level::L1, mfn(0))), Errno::EINVAL, "pin.hypervisor_frame");
    assert_eq!(number(pin(world, Level::L1, mfn(u64::MAX))), Errno::EINVAL, "pin.frame_all_ones");
    world.platform().set(mfn(6), 0, rw(mfn(6)));
    assert_eq!(number(pin(world, Level::L1, mfn(6))), Errno::EBUSY, "pin.l1.self_rw");
    // pin.l4.tree_maps_own_l3_writable: the leaf's number comes through.
    unpin(world, L4);
    world.platform().set(L1, 9, rw(L3));
    assert_eq!(number(pin(world, Level::L4, L4)), Errno::EBUSY);
}

#[test]
fn results_on_hot_paths_are_small() {
    // The evidence moves only when there is some: a result is its size, but success is one tag.
    assert!(size_of::<Error>() <= 144, "{}", size_of::<Error>());
    assert_eq!(size_of::<context::OpError>(), 1);
}
