//! How much one call may do.

/// Table entries that a call may still visit. Every loop that a guest can make long draws on it;
/// when it is used up the call stops with [`Error::Preempted`](crate::Error::Preempted). A budget of
/// at least one makes progress, so a caller that asks again gets to the end.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// A budget of so many entries.
    pub const fn new(entries: u32) -> Budget {
        Budget { left: entries as usize }
    }

    /// No bound: for tests only. Whatever runs on a machine is bounded.
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

    /// Takes so many entries off it, for what was done outside of the validator.
    #[inline]
    pub fn charge(&mut self, entries: usize) {
        self.left = self.left.saturating_sub(entries);
    }
}
