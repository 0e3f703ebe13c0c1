//! Progress of a hypercall that works through a guest's list. It is kept in the arguments of the
//! suspended call, which is executed again.
//!
//! All arguments are decoded and checked again when the call is resumed, so a guest that changes them
//! harms only itself.

/// Bit of the count of a resumed call. No guest has a list that long.
pub(crate) const RESUMED: u64 = 1 << 31;
/// Bit of the count of a resumed call: an upcall told the guest why its first element was refused.
pub(crate) const UPCALL_DELIVERED: u64 = 1 << 30;
/// A count is an unsigned int of the ABI.
pub(crate) const COUNT: u64 = 0xffff_ffff;

/// Whether an element is tried for the first time or again after an upcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// For the first time.
    First,
    /// Again: the guest got an upcall about it, or claims so.
    Retry,
}

/// The list extends beyond the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfAddressSpace;

/// Progress of a list call: elements of one size, one after the other.
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
    /// Of a call whose count may have the mark bits of a suspended one. `list` is the address of the
    /// first element, each of which has `size` bytes.
    pub const fn with_marks(list: u64, count: u64, size: u64) -> ListProgress {
        let resumed = count & RESUMED != 0;
        // Only a resumed call has the other mark; in a new one that bit is part of the count.
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

    /// Of a call whose count has no mark bits.
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
    /// If the element's address is beyond the end of the address space. Whether all its bytes are within
    /// is checked when they are read.
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

    /// Goes on to the next element.
    ///
    /// # Panics
    /// If there is none.
    pub fn advance(&mut self) {
        assert!(self.index < self.count, "advanced beyond the end of a list");
        self.index += 1;
    }

    /// Address and count for resuming a suspended call; `None` if so many elements are left that the
    /// count has no room for the marks. `upcall`: the guest gets an upcall about the next element.
    pub fn suspend_with_marks(&self, upcall: bool) -> Option<(u64, u64)> {
        if self.left() >= UPCALL_DELIVERED {
            return None;
        }
        // A retry that was suspended is still a retry.
        let upcall_delivered = upcall || self.upcall_delivered && self.index == 0;
        let marks = if upcall_delivered { RESUMED | UPCALL_DELIVERED } else { RESUMED };
        Some((self.rest_address(), self.left() | marks))
    }

    /// Address and count for resuming a suspended call without marks.
    pub fn suspend_plainly(&self) -> (u64, u64) {
        (self.rest_address(), self.left())
    }

    /// Wraps: the end of a list that ends with the address space is 0.
    fn rest_address(&self) -> u64 {
        self.list.wrapping_add(self.index.wrapping_mul(self.size))
    }
}
