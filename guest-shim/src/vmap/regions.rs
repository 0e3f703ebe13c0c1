//! Named parts of the vmap range: a subsystem that has one of its own can be told from others in a
//! report.

use super::areas::FreeRanges;
use crate::addr::Vaddr;
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;
use alloc::vec::Vec;
use core::ops::Range;

/// Pages that a part begins and ends at a multiple of: so many freed bits are a word.
const GRAIN: u64 = 64;

/// A named part of the vmap range, from [`Mmu::open_region`]; by default what has no name of its
/// own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(usize);

#[derive(Debug)]
struct Part {
    name: &'static str,
    pages: Range<u64>,
    free: FreeRanges,
}

/// The parts; the first one is what the others were cut off from.
#[derive(Debug)]
pub(super) struct Regions(Vec<Part>);

impl Regions {
    /// So many pages in one part.
    pub(super) fn new(pages: u64) -> Regions {
        let free = FreeRanges::new(pages);
        Regions(alloc::vec![Part { name: super::NAME, pages: 0..pages, free }])
    }

    /// Takes so many pages of a part; the first one.
    pub(super) fn take(&mut self, region: Region, pages: u64) -> Option<u64> {
        self.0[region.0].free.take(pages)
    }

    /// Gives pages back to the part that they are of.
    ///
    /// # Panics
    ///
    /// If one of them is free already.
    pub(super) fn give(&mut self, start: u64, pages: u64) {
        let part = self.0.iter_mut().find(|part| part.pages.contains(&start));
        part.expect("all pages are of some part").free.give(start, pages);
    }

    /// The part of this name.
    fn find(&self, name: &str) -> Option<Region> {
        self.0.iter().position(|part| part.name == name).map(Region)
    }

    /// Cuts pages off the end of the first part, if they are free.
    fn cut(&mut self, name: &'static str, pages: u64) -> Option<Region> {
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

impl<P: Platform> Mmu<P> {
    /// A part of the vmap range of at least so many pages, with a name for reports; the one that
    /// has the name, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] if not so many pages are free at the end of the range, or the
    /// hypervisor's refusal of clearing.
    pub fn open_region(&mut self, name: &'static str, pages: u64) -> Result<Region, Error> {
        if let Some(region) = self.vmap.free.find(name) {
            return Ok(region);
        }
        self.purge_vmap()?;
        let pages = pages.checked_next_multiple_of(GRAIN).ok_or(Error::NoRoom)?;
        let region = self.vmap.free.cut(name, pages).ok_or(Error::NoRoom)?;
        // Names serve reports; a hypervisor that keeps none is as good.
        let _ = self.platform.forget_region(self.vmap.window.va(0));
        for of in [Region::default(), region] {
            self.tell_region(of);
        }
        Ok(region)
    }

    /// Tells the hypervisor what a part is called.
    fn tell_region(&mut self, region: Region) {
        let Part { name, pages, .. } = &self.vmap.free.0[region.0];
        let start: Vaddr = self.vmap.window.va(pages.start);
        let range = pinfold_abi::pinfold::Range { start: start.0, pages: pages.end - pages.start };
        let _ = self.platform.name_region(range, name);
        let bits = &self.vmap.freed.bits()[(pages.start / GRAIN) as usize..];
        let _ = self.platform.freed_map(start, bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_to_their_own_pages() {
        let mut regions = Regions::new(256);
        let whole = Region::default();
        let low = regions.take(whole, 10).unwrap();
        let part = regions.cut("part", 64).unwrap();
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
    fn what_is_in_use_is_not_cut_off() {
        let mut regions = Regions::new(128);
        regions.take(Region::default(), 65);
        assert_eq!(regions.cut("part", 64), None);
        assert_eq!(regions.cut("part", 128), None, "something stays");
        assert_eq!(regions.cut("part", 256), None);
        regions.give(64, 1);
        assert!(regions.cut("part", 64).is_some());
    }
}
