//! A ring of bytes.

use core::sync::atomic::{Ordering, compiler_fence};

/// A ring of `N` bytes, a power of two. Both counters run freely; their difference is the number
/// of bytes in the ring.
///
/// A panic may read the ring although another writer holds its lock. So a writer changes `written`
/// last: until then the ring is as it was.
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
        // At most N. The limit is for a panic that reads without the lock.
        self.written.wrapping_sub(self.read).min(N)
    }

    /// Writes all parts, or nothing if they don't fit. Returns whether they did.
    pub(crate) fn write(&mut self, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > N - self.len() {
            return false;
        }
        let mut end = self.written;
        for part in parts {
            let at = end % N;
            let (first, second) = part.split_at(part.len().min(N - at));
            self.bytes[at..at + first.len()].copy_from_slice(first);
            self.bytes[..second.len()].copy_from_slice(second);
            end = end.wrapping_add(part.len());
        }
        // Store the bytes before the counter. A compiler fence is enough: a panic that ignores the
        // lock runs on this CPU, or has stopped it.
        compiler_fence(Ordering::Release);
        self.written = end;
        true
    }

    /// Reads as many bytes as there are and `to` has room for. Returns how many.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.len());
        let at = self.read % N;
        let (first, second) = to[..count].split_at_mut(count.min(N - at));
        first.copy_from_slice(&self.bytes[at..at + first.len()]);
        second.copy_from_slice(&self.bytes[..second.len()]);
        self.read = self.read.wrapping_add(count);
        count
    }
}
