//! Frames, addresses, slots, CPU sets, budgets.

use super::*;

#[test]
fn addresses_split_into_slots_and_back() {
    for (address, slots) in [
        (0, [0, 0, 0, 0]),
        (0x7fff_ffff_f000, [255, 511, 511, 511]),
        (0xffff_8000_0000_0000, [256, 0, 0, 0]),
        (0xffff_ffff_ffff_f000, [511, 511, 511, 511]),
        (0xffff_8880_4020_1000, [273, 1, 1, 1]),
    ] {
        let address = Vaddr::new(address);
        assert!(address.is_canonical());
        let found = [Level::L4, Level::L3, Level::L2, Level::L1].map(|l| address.index(l).get());
        assert_eq!(found, slots);
        let [l4, l3, l2, l1] = slots.map(slot);
        assert_eq!(Vaddr::from_indexes(l4, l3, l2, l1), address);
    }
}

#[test]
fn the_hole_in_the_middle_is_not_canonical() {
    assert!(Vaddr::new(0x0000_7fff_ffff_ffff).is_canonical());
    assert!(!Vaddr::new(0x0000_8000_0000_0000).is_canonical());
    assert!(!Vaddr::new(0xffff_7fff_ffff_ffff).is_canonical());
    assert!(Vaddr::new(0xffff_8000_0000_0000).is_canonical());
}

#[test]
fn slots_are_below_512_and_sixteen_are_reserved() {
    assert_eq!(Index::try_new(511).map(Index::get), Some(511));
    assert_eq!(Index::try_new(512), None);
    let reserved: Vec<usize> = (0..512).filter(|&n| slot(n).is_reserved()).collect();
    assert_eq!(reserved, (256..272).collect::<Vec<_>>());
}

#[test]
fn sets_of_cpus_hold_what_was_put_in() {
    let set = CpuSet::of(0).with(63).with(5).without(5);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63]);
    assert_eq!(set.len(), 2);
    assert!(set.contains(63) && !set.contains(5) && !set.contains(64) && !set.contains(999));
    assert!(CpuSet::of(64).is_empty());
}

#[test]
fn levels_know_their_neighbours() {
    assert_eq!(Level::L1.below(), None);
    assert_eq!(Level::L4.above(), None);
    for level in Level::ALL {
        assert_eq!(level.below().and_then(Level::above), level.below().map(|_| level));
    }
    assert_eq!(Level::from_number(0), None);
    assert_eq!(Level::from_number(5), None);
}
