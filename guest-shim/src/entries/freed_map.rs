//! A bitmap of the freed pages of a range, shared with the hypervisor.
//!
//! The hypervisor reads it when it reports a mapping in the range: a mapping of a freed page was
//! left behind, any other is in use. Telling it so costs one store, and no call.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// One bit for each page, in the layout of [`pinfold_abi::pinfold::FreedMap`]: on x86, bit n of
/// word m is bit n % 8 of byte 8 m + n / 8.
#[derive(Debug)]
pub(crate) struct FreedMap(Box<[AtomicU64]>);

impl FreedMap {
    /// A map of so many pages, none of them freed.
    pub(crate) fn new(pages: u64) -> FreedMap {
        let words = pages.div_ceil(u64::BITS.into());
        FreedMap((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// The words. Their address never changes.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.0
    }

    /// Marks pages as freed, or as used again.
    pub(crate) fn set(&self, pages: core::ops::Range<u64>, freed: bool) {
        for page in pages {
            let Some(word) = self.0.get((page / 64) as usize) else { return };
            let bit = 1 << (page % 64);
            // Relaxed: the hypervisor reads on behalf of this CPU, or accepts any recent state.
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
    fn the_bits_have_the_layout_of_the_abi() {
        let map = FreedMap::new(130);
        map.set(60..67, true);
        map.set(129..140, true);
        map.set(62..63, false);
        let bytes: std::vec::Vec<u8> = map
            .words()
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        for page in 0..192 {
            let freed = (60..67).contains(&page) && page != 62 || (129..140).contains(&page);
            assert_eq!(bytes[page / 8] & 1 << (page % 8) != 0, freed, "{page}");
        }
    }
}
