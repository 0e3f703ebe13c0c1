//! One direction of a ring: the hypervisor reads it, or writes it.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Bytes that are copied to the stack at a time.
const CHUNK: usize = 128;

/// The indices are further apart than the ring is long, so the guest has overwritten one of them.
///
/// The call has set the hypervisor's own index to the guest's. That empties the ring, so it can be
/// used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidIndices {
    /// The consumer's index, as read.
    pub consumed: u32,
    /// The producer's index, as read.
    pub produced: u32,
}

impl fmt::Display for InvalidIndices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring indices consumed={:#x} produced={:#x}", self.consumed, self.produced)
    }
}

/// A ring of `N` bytes, a power of two, and its indices.
#[derive(Clone, Copy, Debug)]
struct Ring<'a, const N: usize> {
    bytes: &'a [AtomicU8; N],
    consumed: &'a AtomicU32,
    produced: &'a AtomicU32,
}

impl<const N: usize> Ring<'_, N> {
    #[expect(clippy::cast_possible_truncation, reason = "asserted")]
    const SIZE: u32 = {
        assert!(N.is_power_of_two() && N <= 1 << 31);
        N as u32
    };
    const MASK: u32 = Self::SIZE - 1;

    /// The byte at an index.
    fn byte(&self, index: u32) -> &AtomicU8 {
        // The mask is below N.
        &self.bytes[(index & Self::MASK) as usize]
    }

    /// Number of bytes in the ring.
    ///
    /// # Errors
    /// [`InvalidIndices`]: more than fit.
    fn used(consumed: u32, produced: u32) -> Result<u32, InvalidIndices> {
        let used = produced.wrapping_sub(consumed);
        if used <= Self::SIZE { Ok(used) } else { Err(InvalidIndices { consumed, produced }) }
    }
}

/// The hypervisor's end of a ring that the guest writes to.
///
/// Use one at a time: two readers of the same ring would take the same bytes twice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a, const N: usize>(Ring<'a, N>);

impl<'a, const N: usize> Reader<'a, N> {
    /// A reader of the ring with these bytes and indices.
    pub fn new(
        bytes: &'a [AtomicU8; N],
        consumed: &'a AtomicU32,
        produced: &'a AtomicU32,
    ) -> Reader<'a, N> {
        Reader(Ring { bytes, consumed, produced })
    }

    /// Reads as many bytes as there are and `to` has room for. Returns how many.
    ///
    /// # Errors
    /// [`InvalidIndices`]: nothing was read, and the ring is empty now.
    pub fn read(&self, to: &mut [u8]) -> Result<usize, InvalidIndices> {
        let mut room = to.iter_mut();
        self.take(to_u32(room.len()), |bytes| {
            for (to, &byte) in room.by_ref().zip(bytes) {
                *to = byte;
            }
            bytes.len()
        })
    }

    /// Reads all bytes that are in the ring when the call begins, oldest first: passes them to
    /// `each` in pieces. `each` returns how many of the bytes it takes; when it doesn't take all of
    /// a piece, the call ends and the rest stays in the ring.
    ///
    /// Returns the number of bytes taken, and whether some stayed.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn drain(
        &self,
        mut each: impl FnMut(&[u8]) -> usize,
    ) -> Result<(usize, bool), InvalidIndices> {
        let mut left = false;
        let taken = self.take(u32::MAX, |bytes| {
            let taken = each(bytes).min(bytes.len());
            left = taken < bytes.len();
            taken
        })?;
        Ok((taken, left))
    }

    /// Takes at most `max` bytes; ends early when `each` doesn't take all of a piece.
    fn take(
        &self,
        max: u32,
        mut each: impl FnMut(&[u8]) -> usize,
    ) -> Result<usize, InvalidIndices> {
        let ring = &self.0;
        // The hypervisor's own index; but the guest can write to it, too.
        let consumed = ring.consumed.load(Ordering::Relaxed);
        // Acquire: pairs with the guest's write barrier between the bytes and their index.
        let produced = ring.produced.load(Ordering::Acquire);
        let used = Ring::<N>::used(consumed, produced).inspect_err(|invalid| {
            ring.consumed.store(invalid.produced, Ordering::Release);
        })?;
        let count = used.min(max);
        let mut done = 0;
        while done < count {
            let mut chunk = [0; CHUNK];
            let now = ((count - done) as usize).min(CHUNK);
            let chunk = &mut chunk[..now];
            for (offset, to) in (done..count).zip(chunk.iter_mut()) {
                *to = ring.byte(consumed.wrapping_add(offset)).load(Ordering::Relaxed);
            }
            let taken = each(chunk).min(now);
            done += to_u32(taken);
            if taken < now {
                break;
            }
        }
        // Release: the guest may overwrite the bytes once it sees the index, so the loads above
        // must be done.
        ring.consumed.store(consumed.wrapping_add(done), Ordering::Release);
        Ok(done as usize)
    }
}

/// The hypervisor's end of a ring that the guest reads from.
///
/// Use one at a time: two writers of the same ring would overwrite each other's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a, const N: usize>(Ring<'a, N>);

impl<'a, const N: usize> Writer<'a, N> {
    /// A writer to the ring with these bytes and indices.
    pub fn new(
        bytes: &'a [AtomicU8; N],
        consumed: &'a AtomicU32,
        produced: &'a AtomicU32,
    ) -> Writer<'a, N> {
        Writer(Ring { bytes, consumed, produced })
    }

    /// Writes as many of the bytes as the ring has room for. Returns how many.
    ///
    /// # Errors
    /// [`InvalidIndices`]: nothing was written, and the ring is empty now.
    pub fn write(&self, from: &[u8]) -> Result<usize, InvalidIndices> {
        let ring = &self.0;
        // The hypervisor's own index; but the guest can write to it, too.
        let produced = ring.produced.load(Ordering::Relaxed);
        // Acquire: pairs with the guest's barrier between its loads of the bytes and its index, so
        // that no byte is overwritten before the guest has read it.
        let consumed = ring.consumed.load(Ordering::Acquire);
        let used = Ring::<N>::used(consumed, produced).inspect_err(|invalid| {
            ring.produced.store(invalid.consumed, Ordering::Release);
        })?;
        let count = to_u32(from.len()).min(Ring::<N>::SIZE - used);
        for (offset, &byte) in (0..count).zip(from) {
            ring.byte(produced.wrapping_add(offset)).store(byte, Ordering::Relaxed);
        }
        // Release: a guest that sees the index also sees the bytes.
        ring.produced.store(produced.wrapping_add(count), Ordering::Release);
        Ok(count as usize)
    }
}

/// A length, cut to what a ring index can count.
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
