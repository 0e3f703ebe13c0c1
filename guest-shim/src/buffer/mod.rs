//! Buffers that move to pageable storage and back when memory is short.
//!
//! A buffer's pages are frames of its own, until others need memory: then they are copied one by
//! one to an object that can be paged out ([`pageable`](crate::pageable)), each through the pair of
//! atomic slots of the CPU that does it, and their frames are free. When the buffer is used again
//! they come back the same way, into other frames.
//!
//! The slots are the danger: each keeps the mapping of a frame that is free a moment later. What
//! becomes of them is [`Slots`].
//!
//! Each page has a checksum, which is looked at whenever the page is moved or used. A word that
//! reached it by a mapping that somebody forgot is found at that moment, and [`Corrupt`] says in
//! which frame.
//!
//! Contents are copied without the owner of the mappings, so that CPUs copy at the same time: see
//! [`CpuContext`].

mod cpu_context;
mod error;
mod page;
mod swap;

pub use cpu_context::CpuContext;
pub use error::{Corrupt, Error, Moment};

use crate::addr::Pfn;
use crate::pageable::ObjectId;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use page::stamp;

/// What becomes of the slots that a page was copied through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slots {
    /// They keep the mappings, and are dealt with if one of the frames becomes a page table.
    #[default]
    Kept,
    /// They are cleared at once: nobody can write to a frame that is no longer his.
    Cleared,
}

/// A buffer of some [`Buffers`]. Its number is never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BufferId(u64);

impl core::fmt::Display for BufferId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A page of a buffer.
#[derive(Debug)]
struct Page {
    /// Its frame; none while it is in the buffer's object.
    frame: Option<Pfn>,
    /// What its words add up to.
    sum: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    pages: Vec<Page>,
    /// Where pages are that have no frame.
    object: Option<ObjectId>,
}

impl Buffer {
    /// Pages that have a frame.
    fn resident(&self) -> usize {
        self.pages.iter().filter(|page| page.frame.is_some()).count()
    }
}

/// Figures of some [`Buffers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Pages copied out.
    pub out: u64,
    /// Pages copied back.
    pub back: u64,
    /// Checksums that were right.
    pub checked: u64,
}

/// Buffers that share the memory for their pages. One CPU at a time uses them.
#[derive(Debug)]
pub struct Buffers {
    buffers: BTreeMap<BufferId, Buffer>,
    /// The one that was used last is last.
    order: VecDeque<BufferId>,
    limit: usize,
    slots: Slots,
    next: u64,
    stats: BufferStats,
}

impl Buffers {
    /// Without buffers. They keep to so many frames, unless a single one is larger.
    pub fn new(limit: usize, slots: Slots) -> Buffers {
        Buffers {
            buffers: BTreeMap::new(),
            order: VecDeque::new(),
            limit,
            slots,
            next: 0,
            stats: BufferStats::default(),
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> BufferStats {
        self.stats
    }

    /// Frames in use.
    pub fn resident(&self) -> usize {
        self.buffers.values().map(Buffer::resident).sum()
    }

    /// The frames of a buffer; none where a page is elsewhere.
    pub fn frames(&self, id: BufferId) -> Vec<Option<Pfn>> {
        let buffer = self.buffers.get(&id);
        buffer
            .map(|buffer| buffer.pages.iter().map(|page| page.frame).collect())
            .unwrap_or_default()
    }

    /// Makes a buffer of so many pages, filled with words that follow from the seed.
    ///
    /// # Errors
    ///
    /// Without a frame, or the owner's of the mappings. There is no buffer then.
    pub fn create(
        &mut self,
        cpu: &impl CpuContext,
        pages: usize,
        seed: u64,
    ) -> Result<BufferId, Error> {
        let id = BufferId(self.next);
        self.next += 1;
        let pages = (0..pages).map(|_| Page { frame: None, sum: 0 }).collect();
        self.buffers.insert(id, Buffer { pages, object: None });
        self.order.push_back(id);
        let made = self.populate(cpu, id).and_then(|()| self.write(cpu, id, seed));
        if let Err(error) = made {
            self.free(cpu, id)?;
            return Err(error);
        }
        Ok(id)
    }

    /// Fills a buffer anew, whatever was in it.
    ///
    /// # Errors
    ///
    /// As [`swap_in`](Buffers::swap_in), for a buffer that was elsewhere; or the owner's of the
    /// mappings: some of it may be as it was then.
    pub fn write(&mut self, cpu: &impl CpuContext, id: BufferId, seed: u64) -> Result<(), Error> {
        self.swap_in(cpu, id)?;
        let buffer = self.buffers.get_mut(&id).ok_or(Error::Gone(id))?;
        for (number, page) in (0..).zip(&mut buffer.pages) {
            let Some(frame) = page.frame else { continue };
            let mapped = cpu.with_mmu(|mmu, _| mmu.kmap(frame))?;
            page.sum = page::fill(cpu, mapped.va(), stamp(id, number), seed);
            cpu.with_mmu(|mmu, _| mmu.kunmap(mapped));
        }
        Ok(())
    }

    /// Looks at every word of a buffer.
    ///
    /// # Errors
    ///
    /// As [`swap_in`](Buffers::swap_in); [`Error::Corrupt`].
    pub fn check(&mut self, cpu: &impl CpuContext, id: BufferId) -> Result<(), Error> {
        self.swap_in(cpu, id)?;
        let buffer = self.buffers.get(&id).ok_or(Error::Gone(id))?;
        for (number, page) in (0..).zip(&buffer.pages) {
            let Some(frame) = page.frame else { continue };
            let mapped = cpu.with_mmu(|mmu, _| mmu.kmap(frame))?;
            let found = page::sum(cpu, mapped.va(), stamp(id, number));
            cpu.with_mmu(|mmu, _| mmu.kunmap(mapped));
            let wanted = page.sum;
            Corrupt::unless(found == wanted, || Corrupt {
                buffer: id,
                page: number,
                frame,
                moment: Moment::Use,
                wanted,
                found,
            })?;
            self.stats.checked += 1;
        }
        Ok(())
    }

    /// Frees a buffer, wherever its pages are.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], or that of the storage.
    pub fn free(&mut self, cpu: &impl CpuContext, id: BufferId) -> Result<(), Error> {
        let buffer = self.buffers.remove(&id).ok_or(Error::Gone(id))?;
        self.order.retain(|&other| other != id);
        cpu.with_mmu(|mmu, pager| {
            for frame in buffer.pages.iter().filter_map(|page| page.frame) {
                mmu.free_frame(frame);
            }
            buffer.object.map_or(Ok(()), |object| pager.free(mmu, object))
        })?;
        Ok(())
    }
}
