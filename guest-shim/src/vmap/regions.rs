//! Named parts of the vmap range: a report can tell the mappings of one subsystem from those of
//! others.

use super::free_ranges::FreeRanges;
use alloc::vec::Vec;
use core::ops::Range;

/// The name of the range, except for parts that have one of their own.
pub(crate) const WHOLE_RANGE: &str = "vmap";

/// Parts begin and end at a multiple of this many pages, so that their freed bits are whole words.
pub(super) const GRANULE: u64 = u64::BITS as u64;

/// A named part of the vmap range, from [`Mmu::open_region`](crate::mmu::Mmu::open_region). The
/// default is all that has no name of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(usize);

#[derive(Debug)]
struct Part {
    name: &'static str,
    pages: Range<u64>,
    free: FreeRanges,
}

/// All parts. The others were split off the first one.
#[derive(Debug)]
pub(super) struct Regions(Vec<Part>);

impl Regions {
    /// So many pages in one part.
    pub(super) fn new(pages: u64) -> Regions {
        let free = FreeRanges::new(pages);
        Regions(alloc::vec![Part { name: WHOLE_RANGE, pages: 0..pages, free }])
    }

    /// Takes so many pages of a part. Returns the first one.
    pub(super) fn take(&mut self, region: Region, pages: u64) -> Option<u64> {
        self.0[region.0].free.take(pages)
    }

    /// Gives pages back to the part that they are in.
    ///
    /// # Panics
    ///
    /// If one of them is free already.
    pub(super) fn give(&mut self, start: u64, pages: u64) {
        let part = self.0.iter_mut().find(|part| part.pages.contains(&start));
        part.expect("every page is in a part").free.give(start, pages);
    }

    /// The part of this name.
    pub(super) fn find(&self, name: &str) -> Option<Region> {
        self.0.iter().position(|part| part.name == name).map(Region)
    }

    /// Name and pages of a part.
    pub(super) fn part(&self, region: Region) -> (&'static str, Range<u64>) {
        let part = &self.0[region.0];
        (part.name, part.pages.clone())
    }

    /// Splits pages off the end of the first part, if they are free.
    pub(super) fn split_off(&mut self, name: &'static str, pages: u64) -> Option<Region> {
        let whole = self.0[0].pages.clone();
        let start = whole.end.checked_sub(pages).filter(|&start| start > 0)?;
        if !self.0[0].free.take_at(start, pages) {
            return None;
        }
        self.0[0].pages.end = start;
        let mut free = FreeRanges::default();
        free.give(start, pages);
        self.0.push(Part { name, pages: start..whole.end, free });
        Some(Region(self.0.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_gives_out_only_its_own_pages() {
        let mut regions = Regions::new(256);
        let whole = Region::default();
        let low = regions.take(whole, 10).unwrap();
        let part = regions.split_off("part", 64).unwrap();
        assert_eq!(regions.find("part"), Some(part));
        assert_eq!(regions.take(part, 64), Some(192));
        assert_eq!(regions.take(part, 1), None);
        assert_eq!(regions.take(whole, 182), Some(10));
        assert_eq!(regions.take(whole, 1), None, "the rest has another name");
        regions.give(192, 64);
        assert_eq!(regions.take(whole, 1), None);
        assert_eq!(regions.take(part, 64), Some(192));
        regions.give(low, 10);
        assert_eq!(regions.take(whole, 10), Some(low));
    }

    #[test]
    fn pages_in_use_are_not_split_off() {
        let mut regions = Regions::new(128);
        regions.take(Region::default(), 65);
        assert_eq!(regions.split_off("part", 64), None);
        assert_eq!(regions.split_off("part", 128), None, "something stays");
        assert_eq!(regions.split_off("part", 256), None);
        regions.give(64, 1);
        assert!(regions.split_off("part", 64).is_some());
    }
}
