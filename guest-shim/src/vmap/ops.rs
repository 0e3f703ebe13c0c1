//! Mapping, unmapping and clearing.

use super::Policy;
use crate::addr::{Pfn, Vaddr};
use crate::hypercall::Errno;
use crate::mmu::{Error, Leaf, Mmu};
use crate::platform::Platform;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::mmu::{MmuUpdate, MmuextCmd, MmuextOp};
use pinfold_abi::pinfold::{MAX_SHOOTDOWN_RANGES, Range};

/// A live area; goes back with [`Mmu::vunmap`].
#[derive(Debug)]
#[must_use = "its addresses are lost when it is dropped; see Mmu::vunmap"]
pub struct Area {
    first: u64,
    pages: u64,
    start: Vaddr,
}

impl Area {
    /// Address of its first page.
    pub fn start(&self) -> Vaddr {
        self.start
    }

    /// Pages mapped.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

impl<P: Platform> Mmu<P> {
    /// Maps frames side by side, writable.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] without addresses, or the hypervisor's refusal.
    pub fn vmap(&mut self, frames: &[Pfn]) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        // One page more stays unmapped behind each area.
        let first = match self.vmap.free.take(pages + 1) {
            Some(first) => first,
            None => {
                self.purge_vmap()?;
                self.vmap.free.take(pages + 1).ok_or(Error::NoRoom)?
            }
        };
        let start = self.vmap.window.va(first);
        let updates: Vec<_> = (0..pages)
            .zip(frames)
            .map(|(page, &frame)| MmuUpdate {
                ptr: self.vmap.window.entry_addr(start.page(page)),
                val: self.leaf_entry(Leaf::kernel(frame)),
            })
            .collect();
        if let Err(errno) = self.platform.mmu_update(&updates) {
            // Some may be mapped.
            self.clear_pages((first..first + pages).collect())?;
            self.vmap.free.give(first, pages + 1);
            return Err(errno.into());
        }
        for (page, &frame) in (0..pages).zip(frames) {
            let mapping = self.vmap.live_frames.entry(frame).or_insert((0, start.page(page)));
            mapping.0 += 1;
        }
        self.vmap.freed.set(first..first + pages, false);
        self.vmap.live.insert(first, frames.to_vec());
        self.stats.areas += 1;
        Ok(Area { first, pages, start })
    }

    /// Unmaps an area: at once, or later, as the policy has it.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of clearing.
    pub fn vunmap(&mut self, area: Area) -> Result<(), Error> {
        let frames = self.vmap.live.remove(&area.first).unwrap_or_default();
        let indexed = self.vmap.policy.has_index();
        for (page, &frame) in (area.first..).zip(&frames) {
            if let Some(mapping) = self.vmap.live_frames.get_mut(&frame) {
                mapping.0 -= 1;
                if mapping.0 == 0 {
                    self.vmap.live_frames.remove(&frame);
                }
            }
            if indexed {
                self.vmap.index.add(frame, page);
            }
        }
        self.vmap.freed.set(area.first..area.first + area.pages, true);
        self.vmap.dead.push((area.first, area.pages));
        self.vmap.dead_pages += area.pages;
        if self.vmap.is_full() {
            self.purge_vmap()?;
        }
        Ok(())
    }

    /// Clears all dead mappings of areas; how many there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn purge_vmap(&mut self) -> Result<u64, Error> {
        if self.vmap.dead.is_empty() {
            return Ok(0);
        }
        // The index knows which dead pages were not cleared yet; without one, all of them are.
        // If clearing fails, everything stays dead.
        let cleared = if self.vmap.policy.has_index() {
            self.clear_pages(self.vmap.index.pages())?
        } else {
            let dead = self.vmap.dead.iter();
            let start = |first| self.vmap.window.va(first).0;
            let ranges: Vec<_> =
                dead.map(|&(first, pages)| Range { start: start(first), pages }).collect();
            self.clear_ranges(&ranges)?
        };
        self.vmap.dead_pages = 0;
        for (first, pages) in core::mem::take(&mut self.vmap.dead) {
            self.vmap.free.give(first, pages + 1);
        }
        for frame in self.vmap.index.clear() {
            self.frames.release(frame);
        }
        Ok(cleared)
    }

    /// Clears the dead mappings of these frames; how many there were.
    pub(crate) fn shoot_down(&mut self, frames: &BTreeSet<Pfn>) -> Result<u64, Error> {
        let pages = self.vmap.index.take(frames);
        if pages.is_empty() {
            return Ok(0);
        }
        self.clear_pages(pages)
    }

    fn clear_pages(&mut self, pages: Vec<u64>) -> Result<u64, Error> {
        let mut ranges: Vec<Range> = Vec::new();
        for page in pages {
            let start = self.vmap.window.va(page).0;
            match ranges.last_mut() {
                Some(last) if last.start + last.pages * 4096 == start => last.pages += 1,
                _ => ranges.push(Range { start, pages: 1 }),
            }
        }
        self.clear_ranges(&ranges)
    }

    /// Clears the entries of ranges of the vmap window and flushes, in one call where the
    /// hypervisor has one.
    fn clear_ranges(&mut self, ranges: &[Range]) -> Result<u64, Error> {
        let mut cleared = 0;
        for some in ranges.chunks(MAX_SHOOTDOWN_RANGES as usize) {
            cleared += match self.platform.shootdown(some) {
                Ok(shot) => {
                    self.stats.flushes += u64::from(shot.flushed);
                    shot.cleared
                }
                Err(errno) if errno == Known::ENOSYS => self.clear_plainly(some)?,
                Err(errno) => return Err(errno.into()),
            };
            self.stats.shootdowns += 1;
        }
        self.stats.cleared += cleared;
        Ok(cleared)
    }

    fn clear_plainly(&mut self, ranges: &[Range]) -> Result<u64, Errno> {
        let window = &self.vmap.window;
        let updates: Vec<_> = ranges
            .iter()
            .flat_map(|range| (0..range.pages).map(|page| Vaddr(range.start).page(page)))
            .map(|va| MmuUpdate { ptr: window.entry_addr(va), val: 0 })
            .collect();
        self.platform.mmu_update(&updates)?;
        self.stats.flushes += 1;
        let cmd = MmuextCmd::TlbFlushAll as u32;
        self.platform.mmuext_op(&[MmuextOp { cmd, ..MmuextOp::default() }])?;
        Ok(updates.len() as u64)
    }

    /// Changes the policy; everything dead is cleared first.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of clearing.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), Error> {
        self.purge_vmap()?;
        self.vmap.policy = policy;
        Ok(())
    }
}
