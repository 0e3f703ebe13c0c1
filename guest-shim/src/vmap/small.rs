//! Small areas, carved from the blocks of a CPU.

use super::area::Area;
use super::blocks::{BLOCK_PAGES, SMALL_PAGES};
use super::regions::Region;
use super::state::Vmap;
use crate::addr::Pfn;
use crate::entries::Entries;
use crate::error::Error;

impl Vmap {
    /// Maps frames as [`map`](Vmap::map) does, in a block of this CPU if the area is small enough.
    /// Areas of a block touch: no page between them stays unmapped.
    pub(crate) fn map_small(
        &mut self,
        entries: &mut impl Entries,
        region: Region,
        cpu: usize,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        if pages > SMALL_PAGES || pages == 0 {
            return self.map(entries, region, frames);
        }
        let owner = (region, cpu);
        let first = match self.blocks.take(owner, pages) {
            Some(first) => first,
            None => {
                let block = self.take_addresses(entries, region, BLOCK_PAGES + 1)?;
                let drained = self.blocks.open(owner, block);
                self.retire_blocks(entries, drained);
                self.blocks.take(owner, pages).ok_or(Error::NoRoom)?
            }
        };
        self.map_at(entries, first, true, frames)
    }
}
