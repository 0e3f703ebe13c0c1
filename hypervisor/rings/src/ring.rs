//! One direction of a ring, from either end.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Bytes that go through the stack at a time.
const CHUNK: usize = 128;

/// The two indices are further apart than the ring is long: the guest has written over them. Our
/// own index was set to the guest's, which empties the ring, so that it can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled {
    /// What the consumer's index was.
    pub consumed: u32,
    /// What the producer's index was.
    pub produced: u32,
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring indices consumed={:#x} produced={:#x}", self.consumed, self.produced)
    }
}

/// A ring whose length is a power of two: `N` bytes, and both indices.
#[derive(Clone, Copy, Debug)]
struct Ring<'a, const N: usize> {
    bytes: &'a [AtomicU8; N],
    consumed: &'a AtomicU32,
    produced: &'a AtomicU32,
}

impl<const N: usize> Ring<'_, N> {
    const MASK: u32 = {
        assert!(N.is_power_of_two() && N <= 1 << 31);
        N as u32 - 1
    };

    /// The byte at a place; every index has one.
    fn at(&self, index: u32) -> &AtomicU8 {
        // The mask is below N.
        &self.bytes[(index & Self::MASK) as usize]
    }

    /// Bytes in the ring by a pair of indices, if that many can be.
    fn filled(consumed: u32, produced: u32) -> Result<u32, Garbled> {
        let filled = produced.wrapping_sub(consumed);
        if filled <= N as u32 { Ok(filled) } else { Err(Garbled { consumed, produced }) }
    }
}

/// Our end of a ring that the guest writes to.
///
/// One at a time: two readers of one ring would take the same bytes twice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a, const N: usize>(Ring<'a, N>);

impl<'a, const N: usize> Reader<'a, N> {
    /// An end made of its parts.
    pub fn new(
        bytes: &'a [AtomicU8; N],
        consumed: &'a AtomicU32,
        produced: &'a AtomicU32,
    ) -> Reader<'a, N> {
        Reader(Ring { bytes, consumed, produced })
    }

    /// Takes as many bytes as there are and `to` has room for. Returns how many.
    ///
    /// # Errors
    /// [`Garbled`]: the ring was emptied, nothing was taken.
    pub fn read(&self, to: &mut [u8]) -> Result<usize, Garbled> {
        let mut place = to.iter_mut();
        self.take(to_u32(place.len()), |bytes| {
            for (to, &byte) in place.by_ref().zip(bytes) {
                *to = byte;
            }
            bytes.len()
        })
    }

    /// Takes everything that was in the ring when the call began, in pieces, oldest first: at most
    /// `N` bytes. Returns how many.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn drain(&self, mut each: impl FnMut(&[u8])) -> Result<usize, Garbled> {
        self.take(u32::MAX, |bytes| {
            each(bytes);
            bytes.len()
        })
    }

    /// As [`Reader::drain`], but `each` says how many of the bytes it takes: at the first piece that
    /// it doesn't take whole the call ends, and the rest stays in the ring. Returns how many were
    /// taken, and whether the rest stayed.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn drain_while(
        &self,
        mut each: impl FnMut(&[u8]) -> usize,
    ) -> Result<(usize, bool), Garbled> {
        let mut stayed = false;
        let taken = self.take(u32::MAX, |bytes| {
            let taken = each(bytes).min(bytes.len());
            stayed = taken < bytes.len();
            taken
        })?;
        Ok((taken, stayed))
    }

    /// Takes at most so many bytes, until `each` doesn't take all of a piece.
    fn take(&self, most: u32, mut each: impl FnMut(&[u8]) -> usize) -> Result<usize, Garbled> {
        let ring = &self.0;
        // Ours, unless the guest wrote to it.
        let consumed = ring.consumed.load(Ordering::Relaxed);
        // Acquire: pairs with the guest's barrier between writing bytes and counting them, so
        // that what is counted is read as it was written.
        let produced = ring.produced.load(Ordering::Acquire);
        let filled = Ring::<N>::filled(consumed, produced).inspect_err(|garbled| {
            ring.consumed.store(garbled.produced, Ordering::Release);
        })?;
        let count = filled.min(most);
        let mut done = 0;
        while done < count {
            let mut chunk = [0; CHUNK];
            let now = ((count - done) as usize).min(CHUNK);
            let chunk = &mut chunk[..now];
            for (offset, to) in (done..count).zip(chunk.iter_mut()) {
                *to = ring.at(consumed.wrapping_add(offset)).load(Ordering::Relaxed);
            }
            let taken = each(chunk).min(now);
            done += taken as u32;
            if taken < now {
                break;
            }
        }
        // Release: pairs with the guest's barrier between finding room and filling it, so that
        // nothing is written over before it was read.
        ring.consumed.store(consumed.wrapping_add(done), Ordering::Release);
        Ok(done as usize)
    }
}

/// Our end of a ring that the guest reads from.
///
/// One at a time: two writers of one ring would use the same room twice.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a, const N: usize>(Ring<'a, N>);

impl<'a, const N: usize> Writer<'a, N> {
    /// An end made of its parts.
    pub fn new(
        bytes: &'a [AtomicU8; N],
        consumed: &'a AtomicU32,
        produced: &'a AtomicU32,
    ) -> Writer<'a, N> {
        Writer(Ring { bytes, consumed, produced })
    }

    /// Puts as many of the bytes in as there is room for. Returns how many.
    ///
    /// # Errors
    /// [`Garbled`]: the ring was emptied, nothing was put in.
    pub fn write(&self, from: &[u8]) -> Result<usize, Garbled> {
        let ring = &self.0;
        // Ours, unless the guest wrote to it.
        let produced = ring.produced.load(Ordering::Relaxed);
        // Acquire: pairs with the guest's barrier between reading bytes and counting them, so
        // that nothing is written over before it was read.
        let consumed = ring.consumed.load(Ordering::Acquire);
        let filled = Ring::<N>::filled(consumed, produced).inspect_err(|garbled| {
            ring.produced.store(garbled.consumed, Ordering::Release);
        })?;
        let count = to_u32(from.len()).min(N as u32 - filled);
        for (offset, &byte) in (0..count).zip(from) {
            ring.at(produced.wrapping_add(offset)).store(byte, Ordering::Relaxed);
        }
        // Release: pairs with the guest's barrier between finding bytes and reading them, so that
        // what is counted is read as it was written.
        ring.produced.store(produced.wrapping_add(count), Ordering::Release);
        Ok(count as usize)
    }
}

/// A length as far as rings can be long.
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
