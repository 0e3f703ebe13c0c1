//! Progress of list calls: whatever a guest passes, each element is visited once.

use crate::list::*;
use proptest::prelude::*;
use std::vec::Vec;

/// Works through a list, suspended after as many elements as `stops` says; some of the stops are
/// to tell the guest. Returns the addresses visited, and which were tried again.
fn visit(list: u64, count: u64, size: u64, stops: &[(u8, bool)]) -> (Vec<u64>, Vec<u64>) {
    let (mut visited, mut again) = (Vec::new(), Vec::new());
    let mut progress = ListProgress::with_marks(list, count, size);
    assert!(!progress.is_resumed());
    let mut stops = stops.iter();
    loop {
        let (after, tell) = stops.next().copied().unwrap_or((u8::MAX, false));
        for _ in 0..after {
            let Ok(Some((address, attempt))) = progress.next_element() else {
                return (visited, again);
            };
            visited.push(address);
            if attempt == Attempt::Retry {
                again.push(address);
            }
            progress.advance();
        }
        let suspended = progress.suspend_with_marks(tell && progress.left() > 0);
        let (list, count) = suspended.expect("a short list");
        progress = ListProgress::with_marks(list, count, size);
        assert!(progress.is_resumed() && progress.done() == 0);
    }
}

proptest! {
    #[test]
    fn every_element_is_visited_once_in_order(
        start in any::<u32>(),
        count in 0u64..600,
        size in prop_oneof![Just(16u64), Just(24), Just(32), Just(64)],
        stops in proptest::collection::vec((0u8..20, any::<bool>()), 0..80),
    ) {
        let list = u64::from(start) * 8;
        let (visited, again) = visit(list, count, size, &stops);
        let expected: Vec<u64> = (0..count).map(|index| list + index * size).collect();
        prop_assert_eq!(visited, expected);
        let reported = stops.iter().filter(|(_, tell)| *tell).count();
        prop_assert!(again.len() <= reported);
    }

    /// Whatever a guest passes, the call ends: each element done brings it nearer to the end.
    #[test]
    fn any_arguments_are_a_finite_list(list: u64, count: u64, size in 1u64..128) {
        let mut progress = ListProgress::with_marks(list, count, size);
        prop_assert!(progress.left() <= COUNT);
        if let Ok(Some((address, _))) = progress.next_element() {
            prop_assert_eq!(address, list);
            let left = progress.left();
            progress.advance();
            prop_assert_eq!(progress.left(), left - 1);
        }
    }
}

#[test]
fn a_list_may_end_where_the_address_space_does() {
    let list = u64::MAX - 31;
    let mut progress = ListProgress::plain(list, 3, 16);
    assert_eq!(progress.next_element(), Ok(Some((list, Attempt::First))));
    progress.advance();
    progress.advance();
    assert_eq!(progress.suspend_plainly(), (0, 1));
    assert_eq!(progress.next_element(), Err(OutOfAddressSpace));
}

#[test]
fn the_marks_of_a_new_call_are_part_of_its_count() {
    let new = ListProgress::with_marks(0, UPCALL_DELIVERED | 5, 16);
    assert_eq!((new.left(), new.is_resumed()), (UPCALL_DELIVERED | 5, false));
    // With marks it would be taken for a shorter list, and elements would be passed over.
    assert_eq!(new.suspend_with_marks(false), None);
    let mut shorter = ListProgress::with_marks(0, UPCALL_DELIVERED, 16);
    shorter.advance();
    assert_eq!(shorter.suspend_with_marks(false), Some((16, RESUMED | (UPCALL_DELIVERED - 1))));
    let resumed = ListProgress::with_marks(0, RESUMED | UPCALL_DELIVERED | 5, 16);
    assert_eq!((resumed.left(), resumed.is_resumed()), (5, true));
    assert_eq!(resumed.next_element(), Ok(Some((0, Attempt::Retry))));
}

#[test]
fn a_try_that_ran_out_of_time_is_still_that_try() {
    let reported = ListProgress::with_marks(64, RESUMED | UPCALL_DELIVERED | 2, 16);
    let (list, count) = reported.suspend_with_marks(false).unwrap();
    let resumed = ListProgress::with_marks(list, count, 16);
    assert_eq!(resumed.next_element(), Ok(Some((64, Attempt::Retry))));
}
