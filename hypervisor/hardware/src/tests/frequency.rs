//! Which source of a frequency is believed.

use crate::TscScale;
use crate::frequency::{ClockLeaves, Source};

/// A Skylake client: a crystal of 24 MHz that leaf 0x15 doesn't name.
const SKYLAKE: ClockLeaves = ClockLeaves {
    virtual_machine: false,
    crystal: [2, 250, 0],
    base_mhz: 3000,
    hypervisor: [0; 2],
    kvm_clock: None,
};

/// A newer one, which names its crystal.
const COMPLETE: ClockLeaves =
    ClockLeaves { crystal: [2, 104, 38_400_000], base_mhz: 2000, ..SKYLAKE };

#[test]
fn complete_crystal_leaf_names_both() {
    assert_eq!(COMPLETE.tsc_khz(), Some((1_996_800, Source::CrystalLeaf)));
    assert_eq!(COMPLETE.timer_khz(), Some(38_400));
}

#[test]
fn without_crystal_only_the_base_frequency_is_left() {
    assert_eq!(SKYLAKE.tsc_khz(), None);
    assert_eq!(SKYLAKE.timer_khz(), None);
    assert_eq!(SKYLAKE.approximate_tsc_khz(), Some((3_000_000, Source::BaseLeaf)));
    assert_eq!(ClockLeaves::default().approximate_tsc_khz(), None);
}

#[test]
fn hypervisor_comes_before_the_processor() {
    let kvm_clock = TscScale::from_parts(2_863_311_531, -1);
    let leaves = ClockLeaves { virtual_machine: true, kvm_clock, ..COMPLETE };
    assert_eq!(leaves.tsc_khz(), Some((3_000_000, Source::KvmClock)));
    let leaves = ClockLeaves { hypervisor: [2_596_126, 1_000_000], ..leaves };
    assert_eq!(leaves.tsc_khz(), Some((2_596_126, Source::HypervisorLeaf)));
    assert_eq!(leaves.timer_khz(), Some(1_000_000));
}

#[test]
fn crystal_is_not_the_clock_of_a_virtual_timer() {
    let leaves = ClockLeaves { virtual_machine: true, ..COMPLETE };
    assert_eq!(leaves.tsc_khz(), Some((1_996_800, Source::CrystalLeaf)));
    assert_eq!(leaves.timer_khz(), None);
}

#[test]
fn impossible_frequencies_are_ignored() {
    for khz in [0, 99_999, 20_000_001, u32::MAX] {
        let leaves = ClockLeaves { hypervisor: [khz, khz], ..COMPLETE };
        assert_eq!(leaves.tsc_khz(), Some((1_996_800, Source::CrystalLeaf)), "{khz}");
    }
    let leaves = ClockLeaves { hypervisor: [0, u32::MAX], ..SKYLAKE };
    assert_eq!(leaves.timer_khz(), None);
    // A denominator of 0, and the largest of everything.
    for crystal in [[0, 250, 24_000_000], [1, u32::MAX, u32::MAX]] {
        let leaves = ClockLeaves { crystal, ..SKYLAKE };
        assert_eq!(leaves.tsc_khz(), None, "{crystal:?}");
        assert_eq!(
            leaves.timer_khz().is_some(),
            crystal[0] == 1 && crystal[2] / 1000 <= 10_000_000
        );
    }
    // A scale of KVM's that is nonsense.
    let leaves = ClockLeaves { kvm_clock: TscScale::from_parts(1, 20), ..SKYLAKE };
    assert_eq!(leaves.tsc_khz(), None);
}
