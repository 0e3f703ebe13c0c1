//! Conversions: exact, monotonic, and without overflow.

use crate::{TimerRatio, TscScale};
use proptest::prelude::*;

#[test]
fn scale_of_known_frequencies() {
    let parts = |khz| {
        let scale = TscScale::of_khz(khz);
        (scale.mul(), scale.shift())
    };
    assert_eq!(parts(1_000_000), (1 << 31, 1));
    assert_eq!(parts(2_000_000), (1 << 31, 0));
    assert_eq!(parts(4_000_000), (1 << 31, -1));
    // As slow as can be: 2^19 < 1,000,000 < 2^20 ns a tick.
    assert_eq!(parts(1), ((1_000_000u64 << 12) as u32, 20));
    assert_eq!(parts(0), parts(1));
}

#[test]
fn frequency_of_scale_is_the_one_it_was_made_of() {
    for khz in [1, 1_000, 999_999, 1_000_000, 2_596_126, 3_579_545, 5_000_000, 20_000_000] {
        assert_eq!(TscScale::of_khz(khz).to_khz(), khz, "{khz} kHz");
    }
}

#[test]
fn useless_parts_are_no_scale() {
    assert_eq!(TscScale::from_parts(0, 0), None);
    assert_eq!(TscScale::from_parts(1, 33), None);
    assert_eq!(TscScale::from_parts(1, i8::MIN), None);
    assert!(TscScale::from_parts(1, -32).is_some());
    // 3 GHz, as KVM gives it.
    let kvm = TscScale::from_parts(2_863_311_531, -1).expect("a valid scale");
    assert_eq!(kvm.to_khz(), 3_000_000);
}

#[test]
fn what_does_not_fit_is_the_largest() {
    let slow = TscScale::of_khz(1);
    assert_eq!(slow.to_ns(u64::MAX), u64::MAX);
    let fast = TscScale::of_khz(20_000_000);
    assert_eq!(fast.to_ticks(u64::MAX), u64::MAX);
    let extreme = TscScale::from_parts(u32::MAX, 32).expect("a valid scale");
    assert_eq!(extreme.to_ns(u64::MAX), u64::MAX);
    let extreme = TscScale::from_parts(1, -32).expect("a valid scale");
    assert_eq!(extreme.to_ticks(u64::MAX), u64::MAX);
    assert_eq!(extreme.to_ns(u64::MAX), 0);
}

#[test]
fn count_is_at_least_one_and_fits() {
    // KVM: a bus of 1 GHz, divided by 16.
    let ratio = TimerRatio::new(62_500, 2_500_000);
    assert_eq!(ratio.count(0), 1);
    // 10 ms.
    assert_eq!(ratio.count(25_000_000), 625_000);
    assert_eq!(ratio.count(u64::MAX), u32::MAX);
    assert_eq!(TimerRatio::new(u64::MAX, 0).count(u64::MAX), u32::MAX);
    assert_eq!(TimerRatio::from_bits(ratio.bits()), ratio);
}

proptest! {
    /// A deadline in ticks is the first moment at which the clock shows it.
    #[test]
    fn ticks_are_the_fewest_for_the_time(khz in 1u64..20_000_000, ns in 0u64..1 << 62) {
        let scale = TscScale::of_khz(khz);
        let ticks = scale.to_ticks(ns);
        prop_assume!(ticks < u64::MAX);
        prop_assert!(scale.to_ns(ticks) >= ns);
        prop_assert!(ticks == 0 || scale.to_ns(ticks - 1) < ns);
    }

    /// The error of a conversion is that of a multiplier of 31 significant bits.
    #[test]
    fn ns_are_right(khz in 1_000u64..20_000_000, ticks in 0u64..1 << 50) {
        let ns = u128::from(TscScale::of_khz(khz).to_ns(ticks));
        let right = u128::from(ticks) * 1_000_000 / u128::from(khz);
        prop_assert!(ns.abs_diff(right) <= (right >> 30) + 1, "{ns} for {right}");
    }

    #[test]
    fn any_valid_scale_converts_without_overflow(mul in 1u32.., shift in -32i8..=32, value: u64) {
        let scale = TscScale::from_parts(mul, shift).expect("a valid scale");
        let ticks = scale.to_ticks(value);
        prop_assert!(ticks == u64::MAX || scale.to_ns(ticks) >= value);
        let _ = (scale.to_ns(value), scale.to_khz());
    }

    /// A timer doesn't expire before its time, and at most a tick after it.
    #[test]
    fn timer_expires_at_its_time(
        timer_khz in 1_000u64..1_000_000,
        tsc_khz in 100_000u64..20_000_000,
        ticks in 0u64..10_000_000_000,
    ) {
        let count = u128::from(TimerRatio::new(timer_khz, tsc_khz).count(ticks));
        prop_assume!(count < u128::from(u32::MAX));
        // Both sides in units of 1 / (timer_khz * tsc_khz) ms.
        let (expires, wanted) = (count * u128::from(tsc_khz), u128::from(ticks) * u128::from(timer_khz));
        prop_assert!(expires + u128::from(tsc_khz) * 4 > wanted);
        prop_assert!(expires <= wanted + u128::from(tsc_khz));
    }
}
