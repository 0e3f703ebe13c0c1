//! How much work one call may do.

/// Table entries that a call may still visit (`INV-BOUND`). Every loop whose length a guest can choose
/// is charged to it. When it is used up, the call stops with
/// [`Error::Preempted`](crate::Error::Preempted). A budget of at least one makes progress, so a caller
/// that tries again gets to the end.
///
/// ```
/// use pinfold_validator::Budget;
/// let mut budget = Budget::new(512);
/// budget.charge(500);
/// assert_eq!(budget.left(), 12);
/// budget.charge(500);
/// assert_eq!(budget.left(), 0);
/// ```
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// A budget of `entries` table entries.
    pub const fn new(entries: u32) -> Budget {
        Budget { left: entries as usize }
    }

    /// No bound: for tests only.
    #[cfg(test)]
    pub const fn unlimited() -> Budget {
        Budget { left: usize::MAX }
    }

    /// Entries left.
    pub const fn left(&self) -> usize {
        self.left
    }

    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.left == 0
    }

    /// Subtracts `entries`; also for work outside of the validator.
    #[inline]
    pub fn charge(&mut self, entries: usize) {
        self.left = self.left.saturating_sub(entries);
    }
}
