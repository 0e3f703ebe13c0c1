//! The storage that grant entries and their use counts live in.

use core::sync::atomic::AtomicU64;

/// An array of 64-bit words. It may grow, but words that it has never move or disappear.
pub trait WordArray {
    /// The word at `index`; `None` beyond the end.
    fn word(&self, index: usize) -> Option<&AtomicU64>;
}

/// For arrays of fixed length.
impl<const N: usize> WordArray for [AtomicU64; N] {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.get(index)
    }
}
