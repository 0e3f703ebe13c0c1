//! How far a call that works through a guest's list has come, kept where a guest can't harm anybody
//! but itself: in the arguments of the call, which is suspended and made again.
//!
//! Everything is decoded anew when the call is resumed. A guest that changes the arguments of a
//! suspended call fools only itself: they are claims, as those of a new call are.

/// Bit of the count that says: resumed. No guest makes a list that long.
const RESUMED: u64 = 1 << 31;
/// Bit of the count of a resumed list: the guest was told what its first element met.
const UPCALL_DELIVERED: u64 = 1 << 30;
/// A count is an unsigned int of the ABI.
const COUNT: u64 = 0xffff_ffff;

/// Whether an element is tried for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is.
    First,
    /// The guest was told what it met, or says so.
    Retry,
}

/// The list lies across the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfAddressSpace;

/// A list call under way: elements of one size, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListProgress {
    list: u64,
    size: u64,
    count: u64,
    index: u64,
    resumed: bool,
    upcall_delivered: bool,
}

impl ListProgress {
    /// Of a call whose count may carry the marks of a suspended one: `list` is the address of the
    /// first element, each of `size` bytes.
    pub const fn with_marks(list: u64, count: u64, size: u64) -> ListProgress {
        let resumed = count & RESUMED != 0;
        // Only a resumed list has the other mark: in the count of a new one the bit is just a bit.
        let upcall_delivered = resumed && count & UPCALL_DELIVERED != 0;
        let marks = if upcall_delivered { RESUMED | UPCALL_DELIVERED } else { RESUMED };
        ListProgress {
            list,
            size,
            count: count & COUNT & !marks,
            index: 0,
            resumed,
            upcall_delivered,
        }
    }

    /// Of a call whose count is a number and nothing else.
    pub const fn plain(list: u64, count: u64, size: u64) -> ListProgress {
        ListProgress {
            list,
            size,
            count: count & COUNT,
            index: 0,
            resumed: false,
            upcall_delivered: false,
        }
    }

    /// Whether the call was suspended before.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Elements done since the call was made or resumed.
    pub const fn done(&self) -> u64 {
        self.index
    }

    /// Elements that are left.
    pub const fn left(&self) -> u64 {
        self.count - self.index
    }

    /// The address of the next element, and which try it is; `None` at the end of the list.
    ///
    /// # Errors
    /// If the element's address is beyond the end of the address space. (Its last byte may be: that
    /// is for who reads it.)
    pub fn next_element(&self) -> Result<Option<(u64, Attempt)>, OutOfAddressSpace> {
        if self.index == self.count {
            return Ok(None);
        }
        let offset = self.index.checked_mul(self.size).ok_or(OutOfAddressSpace)?;
        let address = self.list.checked_add(offset).ok_or(OutOfAddressSpace)?;
        let attempt =
            if self.upcall_delivered && self.index == 0 { Attempt::Retry } else { Attempt::First };
        Ok(Some((address, attempt)))
    }

    /// The next element is done.
    ///
    /// # Panics
    /// If there is none.
    pub fn advance(&mut self) {
        assert!(self.index < self.count, "an element behind the end of a list is done");
        self.index += 1;
    }

    /// The list's address and count with which a suspended call goes on; `None` if so many elements
    /// are left that the count has no room for the marks. `tell`: the guest is to be told what the
    /// next element met.
    pub fn suspend_with_marks(&self, tell: bool) -> Option<(u64, u64)> {
        if self.left() >= UPCALL_DELIVERED {
            return None;
        }
        // A try that ran out of time is still that try.
        let upcall_delivered = tell || self.upcall_delivered && self.index == 0;
        let marks = if upcall_delivered { RESUMED | UPCALL_DELIVERED } else { RESUMED };
        Some((self.rest_address(), self.left() | marks))
    }

    /// The list's address and count with which a suspended call without marks goes on.
    pub fn suspend_plainly(&self) -> (u64, u64) {
        (self.rest_address(), self.left())
    }

    /// The list may end where the address space does, so its end may be 0.
    fn rest_address(&self) -> u64 {
        self.list.wrapping_add(self.index.wrapping_mul(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
