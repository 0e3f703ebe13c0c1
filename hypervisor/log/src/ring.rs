//! Bytes in a ring.

use core::sync::atomic::{Ordering, compiler_fence};

/// A ring of `N` bytes, a power of two. Both counters run freely; their difference is what is in
/// it. A writer moves `written` last, so that a reader that breaks the lock (a panic) finds a ring
/// that makes sense.
#[derive(Debug)]
pub(crate) struct Ring<const N: usize> {
    bytes: [u8; N],
    read: usize,
    written: usize,
}

impl<const N: usize> Ring<N> {
    pub(crate) const fn new() -> Ring<N> {
        assert!(N.is_power_of_two());
        Ring { bytes: [0; N], read: 0, written: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        // Never more than N, unless a writer was interrupted by a panic of its own.
        self.written.wrapping_sub(self.read).min(N)
    }

    /// Puts pieces in, as one. Returns whether there was room.
    pub(crate) fn put(&mut self, pieces: &[&[u8]]) -> bool {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length > N - self.len() {
            return false;
        }
        let mut at = self.written;
        for piece in pieces {
            let place = at % N;
            let (first, second) = piece.split_at(piece.len().min(N - place));
            self.bytes[place..place + first.len()].copy_from_slice(first);
            self.bytes[..second.len()].copy_from_slice(second);
            at = at.wrapping_add(piece.len());
        }
        // The bytes before the count, for a reader on this very processor.
        compiler_fence(Ordering::Release);
        self.written = at;
        true
    }

    /// Takes bytes out, as many as there are and `to` has room for. Returns how many.
    pub(crate) fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.len());
        let place = self.read % N;
        let (first, second) = to[..count].split_at_mut(count.min(N - place));
        first.copy_from_slice(&self.bytes[place..place + first.len()]);
        second.copy_from_slice(&self.bytes[..second.len()]);
        self.read = self.read.wrapping_add(count);
        count
    }
}
