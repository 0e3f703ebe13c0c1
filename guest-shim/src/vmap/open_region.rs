//! Giving a part of the range a name.

use super::regions::{GRANULE, Region};
use super::state::Vmap;
use crate::entries::Entries;
use crate::error::Error;
use pinfold_abi::pinfold::Range;

impl Vmap {
    /// The part of this name; if there is none, one of at least so many pages is made.
    pub(crate) fn open_region(
        &mut self,
        entries: &mut impl Entries,
        name: &'static str,
        pages: u64,
    ) -> Result<Region, Error> {
        if let Some(region) = self.free.find(name) {
            return Ok(region);
        }
        self.purge(entries)?;
        let pages = pages.checked_next_multiple_of(GRANULE).ok_or(Error::NoRoom)?;
        let region = self.free.split_off(name, pages).ok_or(Error::NoRoom)?;
        entries.forget_name(self.window.va(0));
        for part in [Region::default(), region] {
            self.name_part(entries, part);
        }
        Ok(region)
    }

    /// Tells the hypervisor the name of a part.
    fn name_part(&self, entries: &mut impl Entries, region: Region) {
        let (name, pages) = self.free.part(region);
        let start = self.window.va(pages.start).0;
        let range = Range { start, pages: pages.end - pages.start };
        let freed = &self.freed.words()[(pages.start / GRANULE) as usize..];
        entries.name_range(range, name, freed);
    }
}
