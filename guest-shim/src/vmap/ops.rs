//! Mapping, unmapping and clearing.

use super::area::{Area, DeadArea};
use super::blocks::{BLOCK_PAGES, DrainedBlock};
use super::policy::Policy;
use super::regions::Region;
use super::state::Vmap;
use crate::addr::{PAGE_SIZE, Pfn, Vaddr};
use crate::entries::Entries;
use crate::error::Error;
use crate::frames::FrameSet;
use alloc::vec::Vec;
use pinfold_abi::pinfold::Range;

impl Vmap {
    /// Maps frames side by side, writable, in a part of the range.
    pub(crate) fn map(
        &mut self,
        entries: &mut impl Entries,
        region: Region,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        // One unmapped page follows each area.
        let first = self.take_addresses(entries, region, frames.len() as u64 + 1)?;
        self.map_at(entries, first, false, frames)
    }

    /// Maps frames from a page of the range on.
    pub(super) fn map_at(
        &mut self,
        entries: &mut impl Entries,
        first: u64,
        in_block: bool,
        frames: &[Pfn],
    ) -> Result<Area, Error> {
        let pages = frames.len() as u64;
        let start = self.window.va(first);
        for &frame in frames {
            self.live_counts.increment(frame);
        }
        self.freed.set(first..first + pages, false);
        self.live.insert(first, frames.to_vec());
        let area = Area { first, pages, start, in_block };
        if let Err(errno) = entries.map(start, frames) {
            // Some pages may be mapped: they are cleared like those of a dead area.
            self.unmap(entries, area)?;
            return Err(errno.into());
        }
        entries.stats().areas += 1;
        Ok(area)
    }

    /// Takes free addresses of a part of the range, after clearing all that is dead if need be.
    pub(super) fn take_addresses(
        &mut self,
        entries: &mut impl Entries,
        region: Region,
        pages: u64,
    ) -> Result<u64, Error> {
        if let Some(first) = self.free.take(region, pages) {
            return Ok(first);
        }
        let idle = self.blocks.close_idle();
        self.retire_blocks(entries, idle);
        self.purge(entries)?;
        self.free.take(region, pages).ok_or(Error::NoRoom)
    }

    /// Unmaps an area, at once or later according to the policy.
    pub(crate) fn unmap(&mut self, entries: &mut impl Entries, area: Area) -> Result<(), Error> {
        let frames = self.live.remove(&area.first).unwrap_or_default();
        let (indexed, hinted) = (self.policy.has_index(), self.policy == Policy::Hinted);
        for (page, &frame) in (area.first..).zip(&frames) {
            self.live_counts.decrement(frame);
            if indexed {
                self.index.add(frame, page);
            } else if hinted {
                self.hints.add(frame);
            }
        }
        let Area { first, pages, in_block, .. } = area;
        let dead = DeadArea { first, pages, in_block, since: self.now };
        self.freed.set(dead.page_range(), true);
        self.dead.push(dead);
        self.dead_pages += pages;
        if in_block {
            let drained = self.blocks.retire(first, pages);
            self.retire_blocks(entries, drained);
        }
        if self.is_full() {
            self.purge(entries)?;
        }
        Ok(())
    }

    /// Notes that all areas of these blocks are dead: their addresses are free after the next
    /// purge, since mappings of their last areas may still exist.
    pub(super) fn retire_blocks(
        &mut self,
        entries: &mut impl Entries,
        drained: impl IntoIterator<Item = DrainedBlock>,
    ) {
        #[cfg(not(feature = "raw"))]
        let _ = entries;
        for block in drained {
            #[cfg(feature = "raw")]
            if self.leaked.leaks(block.cpu) {
                self.leak_block(entries, block.first);
                continue;
            }
            self.drained.push(block.first);
        }
    }

    /// Clears all dead mappings. Returns how many there were.
    pub(crate) fn purge(&mut self, entries: &mut impl Entries) -> Result<u64, Error> {
        if self.dead.is_empty() && self.drained.is_empty() {
            return Ok(0);
        }
        // The index knows which dead pages are still mapped; without one, all of them may be. If
        // clearing fails, everything stays dead.
        let cleared = if self.policy.has_index() {
            let pages = self.dead.iter().flat_map(|dead| self.index.dead_in(dead.page_range()));
            let pages: Vec<u64> = pages.collect();
            self.clear_pages(entries, pages)?
        } else {
            let range =
                |dead: &DeadArea| Range { start: self.window.va(dead.first).0, pages: dead.pages };
            let ranges: Vec<Range> = self.dead.iter().map(range).collect();
            let cleared = entries.clear_ranges(&ranges)?;
            entries.stats().cleared += cleared;
            cleared
        };
        self.dead_pages = 0;
        self.hints.clear();
        for dead in core::mem::take(&mut self.dead) {
            if !dead.in_block {
                self.free.give(dead.first, dead.pages + 1);
            }
            for page in dead.page_range() {
                if let Some(frame) = self.index.forget_with_all(page) {
                    entries.free_deferred(frame);
                }
            }
        }
        for first in core::mem::take(&mut self.drained) {
            self.free.give(first, BLOCK_PAGES + 1);
        }
        Ok(cleared)
    }

    /// Sets the time, in the kernel's own unit, and clears all dead mappings if the oldest is at
    /// least so old. Returns how many there were.
    pub(crate) fn purge_aged(
        &mut self,
        entries: &mut impl Entries,
        now: u64,
        age: u64,
    ) -> Result<u64, Error> {
        self.now = now;
        match self.dead.first() {
            Some(oldest) if now.saturating_sub(oldest.since) >= age => self.purge(entries),
            _ => Ok(0),
        }
    }

    /// Clears the indexed dead mappings of these frames, and these kmap slots, with one call.
    /// Returns how many mappings there were.
    pub(crate) fn shoot_down(
        &mut self,
        entries: &mut impl Entries,
        frames: &FrameSet,
        slots: &[Vaddr],
    ) -> Result<u64, Error> {
        let pages = self.index.of(frames);
        let areas = pages.iter().map(|&page| self.window.va(page));
        let ranges = ranges_of(areas.chain(slots.iter().copied()));
        if ranges.is_empty() {
            return Ok(0);
        }
        // If clearing fails, everything stays dead.
        let cleared = entries.clear_ranges(&ranges)?;
        self.index.forget(frames);
        entries.stats().cleared += cleared.saturating_sub(slots.len() as u64);
        Ok(cleared)
    }

    /// Clears these pages of the range. Returns how many were mapped.
    pub(super) fn clear_pages(
        &mut self,
        entries: &mut impl Entries,
        pages: Vec<u64>,
    ) -> Result<u64, Error> {
        let ranges = ranges_of(pages.into_iter().map(|page| self.window.va(page)));
        let cleared = entries.clear_ranges(&ranges)?;
        entries.stats().cleared += cleared;
        Ok(cleared)
    }

    /// Changes the policy, after clearing everything that is dead.
    pub(crate) fn set_policy(
        &mut self,
        entries: &mut impl Entries,
        policy: Policy,
    ) -> Result<(), Error> {
        self.purge(entries)?;
        self.policy = policy;
        Ok(())
    }
}

/// Joins pages in ascending order to ranges.
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
