//! Buffers that move to pageable storage when memory is short, and back.
//!
//! A buffer's pages are frames of its own until others need memory. Then they are copied one by one
//! to an object that can be paged out ([`pageable`](crate::pageable)), through the atomic kmap
//! slots of the CPU that does it, and their frames are freed. When the buffer is used again they
//! are copied back, into other frames.
//!
//! The slots are the danger: each may keep the mapping of a frame that is free a moment later.
//! [`Slots`] says what happens to them.
//!
//! Each page has a checksum that is compared whenever the page is moved or used. A write through a
//! forgotten mapping is found then, and [`Corrupt`] says in which frame.
//!
//! Contents are copied without the [`Mmu`](crate::mmu::Mmu), so that CPUs can copy at the same
//! time: see [`CpuContext`].

mod cpu_context;
mod error;
mod id;
mod page;
mod swap;

pub use cpu_context::CpuContext;
pub use error::{Corrupt, Error, Moment};
pub use id::BufferId;

use crate::addr::Pfn;
use crate::pageable::ObjectId;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use page::stamp;

/// What happens to the slots that a page was copied through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slots {
    /// They keep the mappings, which are cleared if one of the frames becomes a page table.
    #[default]
    Kept,
    /// They are cleared at once: no write can reach a frame that is no longer the buffer's.
    Cleared,
}

/// A page of a buffer.
#[derive(Debug)]
struct Page {
    /// Its frame; `None` while its contents are in the buffer's object.
    frame: Option<Pfn>,
    /// The checksum of its words.
    sum: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    pages: Vec<Page>,
    /// Where the contents of pages without a frame are.
    object: Option<ObjectId>,
}

impl Buffer {
    /// Pages that have a frame.
    fn resident(&self) -> usize {
        self.pages.iter().filter(|page| page.frame.is_some()).count()
    }
}

/// Counters of some [`Buffers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Pages copied out.
    pub out: u64,
    /// Pages copied back.
    pub back: u64,
    /// Checksums compared and found right.
    pub checked: u64,
}

/// Buffers that share a limit of frames. One CPU at a time uses them.
#[derive(Debug)]
pub struct Buffers {
    buffers: BTreeMap<BufferId, Buffer>,
    /// In the order of their last use.
    order: VecDeque<BufferId>,
    limit: usize,
    slots: Slots,
    next: u64,
    stats: BufferStats,
}

impl Buffers {
    /// Without buffers. All together have at most `limit` frames, except for a single buffer that
    /// is larger.
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

    /// The counters.
    pub fn stats(&self) -> BufferStats {
        self.stats
    }

    /// Frames in use.
    pub fn resident(&self) -> usize {
        self.buffers.values().map(Buffer::resident).sum()
    }

    /// The frames of a buffer's pages; `None` for a page that is copied out.
    pub fn frames(&self, id: BufferId) -> Vec<Option<Pfn>> {
        let buffer = self.buffers.get(&id);
        buffer
            .map(|buffer| buffer.pages.iter().map(|page| page.frame).collect())
            .unwrap_or_default()
    }

    /// Makes a buffer of so many pages, filled with words that depend on the seed.
    ///
    /// # Errors
    ///
    /// Those of the [`Mmu`](crate::mmu::Mmu) and of the storage. There is no buffer then.
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

    /// Fills a buffer with other words.
    ///
    /// # Errors
    ///
    /// As [`swap_in`](Buffers::swap_in), or those of the [`Mmu`](crate::mmu::Mmu): some pages may
    /// have their old words then.
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

    /// Compares the checksums of all pages of a buffer.
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

    /// Frees a buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], or those of the storage.
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
