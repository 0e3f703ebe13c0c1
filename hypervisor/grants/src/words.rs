//! Where words are.

use core::sync::atomic::AtomicU64;

/// An array of words that can grow, but never moves what it has.
pub trait Words {
    /// A word; `None` beyond the end.
    fn word(&self, index: usize) -> Option<&AtomicU64>;
}
