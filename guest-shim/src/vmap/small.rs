//! Small areas, from the blocks of a CPU; and clearing by age.

use super::blocks::{BLOCK_PAGES, DrainedBlock, SMALL_PAGES};
use super::{Area, Dead, Region};
use crate::addr::Pfn;
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;

impl<P: Platform> Mmu<P> {
    /// As [`vmap_in`](Mmu::vmap_in), from a block of this CPU's if the area is small enough: areas of a block
    /// lie wall to wall, with no page unmapped in between.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    pub fn vmap_small(
        &mut self,
        region: Region,
        cpu: usize,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        if pages > SMALL_PAGES || pages == 0 {
            return self.vmap_in(region, frames);
        }
        let first = match self.vmap.blocks.take((region, cpu), pages) {
            Some(first) => first,
            None => {
                let block = self.take_addresses(region, BLOCK_PAGES + 1)?;
                let drained = self.vmap.blocks.open((region, cpu), block);
                self.retire_blocks(drained)?;
                self.vmap.blocks.take((region, cpu), pages).ok_or(Error::NoRoom)?
            }
        };
        self.map_area(first, true, frames)
    }

    /// Takes pages of a part of the range, if need be after all that is dead was cleared.
    pub(super) fn take_addresses(&mut self, region: Region, pages: u64) -> Result<u64, Error> {
        if let Some(first) = self.vmap.free.take(region, pages) {
            return Ok(first);
        }
        let idle = self.vmap.blocks.close_idle();
        self.retire_blocks(idle)?;
        self.purge_vmap()?;
        self.vmap.free.take(region, pages).ok_or(Error::NoRoom)
    }

    /// Has the addresses of blocks come back with the next clearing: mappings of their last areas
    /// may still be there.
    pub(super) fn retire_blocks(
        &mut self,
        drained: impl IntoIterator<Item = DrainedBlock>,
    ) -> Result<(), Error> {
        for DrainedBlock { first, cpu } in drained {
            #[cfg(feature = "raw")]
            if self.vmap.leaked.leaks(cpu) {
                self.leak_block(first)?;
                continue;
            }
            let _ = cpu;
            self.vmap.drained.push(first);
        }
        Ok(())
    }

    /// Says what time it is, in whatever unit, and clears all dead mappings if the oldest of them
    /// is at least so old; how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_aged(&mut self, now: u64, age: u64) -> Result<u64, Error> {
        self.vmap.now = now;
        match self.vmap.dead.first() {
            Some(Dead { since, .. }) if now.saturating_sub(*since) >= age => self.purge_vmap(),
            _ => Ok(0),
        }
    }
}
