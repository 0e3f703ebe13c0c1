//! Mapping, unmapping and clearing.

use super::blocks::BLOCK_PAGES;
use super::{Dead, Policy, Region};
use crate::addr::{PAGE_SIZE, Pfn, Vaddr};
use crate::hypercall::Errno;
use crate::mmu::{Error, Leaf, Mmu};
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use alloc::vec::Vec;
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::mmu::{MmuUpdate, MmuextCmd, MmuextOp};
use pinfold_abi::pinfold::{MAX_SHOOTDOWN_RANGES, Range};

/// A live area; goes back with [`Mmu::vunmap`].
#[derive(Debug)]
#[must_use = "its addresses are lost when it is dropped; see Mmu::vunmap"]
pub struct Area {
    pub(super) first: u64,
    pub(super) pages: u64,
    pub(super) start: Vaddr,
    /// Whether it was carved from a block.
    pub(super) in_block: bool,
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
        self.vmap_in(Region::default(), frames)
    }

    /// Maps frames side by side, writable, in a named part of the range.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    pub fn vmap_in(&mut self, region: Region, frames: &[Pfn]) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        // One page more stays unmapped behind each area.
        let first = self.take_addresses(region, pages + 1)?;
        self.map_area(first, false, frames)
    }

    /// Maps frames from a page of the range on.
    pub(super) fn map_area(
        &mut self,
        first: u64,
        in_block: bool,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        let start = self.vmap.window.va(first);
        let mut updates = Vec::with_capacity(frames.len());
        for (page, &frame) in (0..pages).zip(frames) {
            let ptr = self.vmap.window.entry_addr(start.page(page));
            updates.push(MmuUpdate { ptr, val: self.leaf_entry(Leaf::kernel(frame)) });
        }
        for &frame in frames {
            self.vmap.live_counts.add(frame);
        }
        self.vmap.freed.set(first..first + pages, false);
        self.vmap.live.insert(first, frames.to_vec());
        for (page, (&update, &frame)) in (0..).zip(updates.iter().zip(frames)) {
            self.note_mapped(update, frame, start.page(page));
        }
        let area = Area { first, pages, start, in_block };
        if let Err(errno) = self.platform.mmu_update(&updates) {
            // Some may be mapped: it is as good as dead.
            self.vunmap(area)?;
            return Err(errno.into());
        }
        self.stats.areas += 1;
        Ok(area)
    }

    /// Unmaps an area: at once, or later, as the policy has it.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of clearing.
    pub fn vunmap(&mut self, area: Area) -> Result<(), Error> {
        let frames = self.vmap.live.remove(&area.first).unwrap_or_default();
        let (indexed, hinted) = (self.vmap.policy.has_index(), self.vmap.policy == Policy::Hinted);
        for (page, &frame) in (area.first..).zip(&frames) {
            self.vmap.live_counts.subtract(frame);
            if indexed {
                self.vmap.index.add(frame, page);
            } else if hinted {
                self.vmap.hints.add(frame);
            }
        }
        self.vmap.freed.set(area.first..area.first + area.pages, true);
        let Area { first, pages, in_block, .. } = area;
        self.vmap.dead.push(Dead { first, pages, in_block, since: self.vmap.now });
        self.vmap.dead_pages += pages;
        if in_block {
            let drained = self.vmap.blocks.retire(first, pages);
            self.retire_blocks(drained)?;
        }
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
        if self.vmap.dead.is_empty() && self.vmap.drained.is_empty() {
            return Ok(0);
        }
        // The index knows which dead pages were not cleared yet; without one, all of them are.
        // If clearing fails, everything stays dead.
        let cleared = if self.vmap.policy.has_index() {
            let dead = self.vmap.dead.iter();
            let index = &self.vmap.index;
            let pages = dead.flat_map(|dead| index.dead_in(dead.first..dead.first + dead.pages));
            self.clear_pages(pages.collect())?
        } else {
            let dead = self.vmap.dead.iter();
            let start = |first| self.vmap.window.va(first).0;
            let ranges: Vec<_> =
                dead.map(|dead| Range { start: start(dead.first), pages: dead.pages }).collect();
            let cleared = self.clear_ranges(&ranges)?;
            self.stats.cleared += cleared;
            cleared
        };
        self.vmap.dead_pages = 0;
        self.vmap.hints.clear();
        for Dead { first, pages, in_block, .. } in core::mem::take(&mut self.vmap.dead) {
            if !in_block {
                self.vmap.free.give(first, pages + 1);
            }
            for page in first..first + pages {
                if let Some(frame) = self.vmap.index.forget_with_all(page) {
                    self.frames.release(frame);
                }
            }
        }
        for first in core::mem::take(&mut self.vmap.drained) {
            self.vmap.free.give(first, BLOCK_PAGES + 1);
        }
        Ok(cleared)
    }

    /// Clears the dead mappings of these frames by areas, and these idle slots that map some of them; how
    /// many there were.
    pub(crate) fn shoot_down(&mut self, frames: &FrameSet, slots: &[usize]) -> Result<u64, Error> {
        let pages = self.vmap.index.of(frames);
        let areas = pages.iter().map(|&page| self.vmap.window.va(page));
        let all = areas.chain(slots.iter().map(|&slot| self.kmap.va(slot)));
        let ranges = ranges_of(all);
        if ranges.is_empty() {
            return Ok(0);
        }
        // If clearing fails, everything stays where it was.
        let cleared = self.clear_ranges(&ranges)?;
        self.vmap.index.forget(frames);
        self.forget_slots(slots);
        self.stats.cleared += cleared.saturating_sub(slots.len() as u64);
        Ok(cleared)
    }

    pub(super) fn clear_pages(&mut self, pages: Vec<u64>) -> Result<u64, Error> {
        let ranges = ranges_of(pages.into_iter().map(|page| self.vmap.window.va(page)));
        let cleared = self.clear_ranges(&ranges)?;
        self.stats.cleared += cleared;
        Ok(cleared)
    }

    /// Clears the entries of ranges of the vmap and kmap windows and flushes, in one call where the
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
            self.note_cleared(some);
            self.stats.shootdowns += 1;
        }
        Ok(cleared)
    }

    fn clear_plainly(&mut self, ranges: &[Range]) -> Result<u64, Errno> {
        let updates: Vec<_> = ranges
            .iter()
            .flat_map(|range| (0..range.pages).map(|page| Vaddr(range.start).page(page)))
            .map(|va| {
                let in_vmap = self.vmap.covers(va);
                let window = if in_vmap { &self.vmap.window } else { self.kmap.window() };
                MmuUpdate { ptr: window.entry_addr(va), val: 0 }
            })
            .collect();
        self.platform.mmu_update(&updates)?;
        self.stats.flushes += 1;
        let cmd = MmuextCmd::TlbFlushAll as u32;
        self.platform.mmuext_op(&[MmuextOp { cmd, ..MmuextOp::default() }])?;
        Ok(updates.len() as u64)
    }

    /// Dead mappings of areas that were not cleared yet.
    pub fn lazy_mappings(&self) -> u64 {
        self.vmap.lazy()
    }

    /// Sets how many dead pages the lazy policies leave for later. What a new owner leaves is a
    /// thousand for each doubling of the CPUs, or half of the range if that is less.
    pub fn set_lazy_limit(&mut self, pages: u64) {
        self.vmap.limit = pages;
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

/// Pages in order, as ranges.
fn ranges_of(pages: impl Iterator<Item = Vaddr>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for Vaddr(start) in pages {
        match ranges.last_mut() {
            Some(last) if last.start + last.pages * PAGE_SIZE == start => last.pages += 1,
            _ => ranges.push(Range { start, pages: 1 }),
        }
    }
    ranges
}
