//! Which pages of a range are freed, told to whoever asks in a page that costs one store to write.
//!
//! The hypervisor looks there when it reports a mapping in the range, so that the report can tell a
//! mapping that was merely forgotten from one that somebody uses.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// One bit for each page, as `pinfold_abi::pinfold::FreedMap` wants them: on x86, bit n of word m
/// is bit n % 8 of byte 8 m + n / 8.
#[derive(Debug)]
pub(crate) struct FreedMap(Box<[AtomicU64]>);

impl FreedMap {
    /// For so many pages, none of them freed.
    pub(crate) fn new(pages: u64) -> FreedMap {
        FreedMap((0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// The bits: they stay where they are.
    pub(crate) fn bits(&self) -> &[AtomicU64] {
        &self.0
    }

    /// Notes that pages are freed, or used again.
    pub(crate) fn set(&self, pages: core::ops::Range<u64>, freed: bool) {
        for page in pages {
            let Some(word) = self.0.get((page / 64) as usize) else { return };
            let bit = 1 << (page % 64);
            // Relaxed: who reads it does so on behalf of this CPU, or takes what it finds.
            if freed {
                word.fetch_or(bit, Ordering::Relaxed);
            } else {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_lie_as_the_hypervisor_reads_them() {
        let map = FreedMap::new(130);
        map.set(60..67, true);
        map.set(129..140, true);
        map.set(62..63, false);
        let bytes: std::vec::Vec<u8> =
            map.bits().iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        for page in 0..192 {
            let freed = (60..67).contains(&page) && page != 62 || (129..140).contains(&page);
            assert_eq!(bytes[page / 8] & 1 << (page % 8) != 0, freed, "{page}");
        }
    }
}
