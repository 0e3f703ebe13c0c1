//! A buffer cache, as a file system has: blocks of a disk in buffers of several pages that are
//! mapped side by side, found by block number, and evicted when others are wanted.
//!
//! Such caches brought lazy mappings into conflict with page tables. An evicted buffer is unmapped
//! lazily and its pages are free at once: the next page table may be made of one. Nothing in here
//! knows about that, as no file system should; the [`Mmu`] does.
//!
//! Whoever [gets](BufferCache::get) a buffer has it alone, and may use its words without the cache,
//! through the addresses in its [`Handle`].
//!
//! Every page has a checksum, taken when it is written to the disk and compared when it is read
//! back, and compared again for pages that nobody changed. A write through a stray mapping shows as
//! [`Error::Corrupt`], with block and page.

mod disk;
mod lru;

pub use disk::{Disk, MemoryDisk};

use crate::addr::{PAGE_WORDS, Pfn, Vaddr, word_of, words_of};
use crate::mmu::{self, Mmu};
use crate::platform::Platform;
use crate::vmap::{Area, Region};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use lru::LruOrder;

/// Words of a page.
pub const WORDS: usize = PAGE_WORDS;

/// Initial value and factor of 64-bit FNV-1a.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// Why an operation on the cache failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Somebody has the buffer.
    Busy,
    /// The [`Mmu`] has no frame or no address left, or the hypervisor refused.
    Mmu(mmu::Error),
    /// A page changed since it was last used.
    Corrupt {
        /// The block.
        block: u64,
        /// Which of its pages.
        page: usize,
        /// The frame that holds it.
        frame: Pfn,
    },
}

impl From<mmu::Error> for Error {
    fn from(error: mmu::Error) -> Error {
        Error::Mmu(error)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Busy => f.write_str("somebody has the buffer"),
            Error::Mmu(error) => error.fmt(f),
            Error::Corrupt { block, page, frame } => {
                write!(f, "page {page} of block {block}, in frame {frame}, was changed by nobody")
            }
        }
    }
}

/// A buffer that somebody has. It goes back with [`BufferCache::put`].
#[derive(Debug)]
#[must_use = "the buffer stays taken when this is dropped; see BufferCache::put"]
pub struct Handle {
    block: u64,
    start: Vaddr,
    pages: u64,
}

impl Handle {
    /// The block.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Address of its first byte.
    pub fn start(&self) -> Vaddr {
        self.start
    }

    /// Its pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

/// A block in memory.
#[derive(Debug)]
struct Buffer {
    frames: Vec<Pfn>,
    area: Area,
    /// Checksums of the pages, as of when the buffer was read or given back.
    sums: Vec<u64>,
    taken: bool,
    dirty: bool,
    /// When it was given back last.
    used: u64,
}

/// Counters of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buffers found in memory.
    pub hits: u64,
    /// Buffers read.
    pub reads: u64,
    /// Buffers written.
    pub writes: u64,
    /// Buffers evicted.
    pub evictions: u64,
}

/// The cache.
#[derive(Debug)]
pub struct BufferCache<D> {
    disk: D,
    region: Region,
    buffers: BTreeMap<u64, Buffer>,
    /// Buffers that nobody has, the least recently used first.
    idle: LruOrder,
    /// Checksums of the pages on the disk, by block.
    on_disk: BTreeMap<u64, Vec<u64>>,
    pages: u64,
    limit: u64,
    now: u64,
    counts: Counts,
}

impl<D: Disk> BufferCache<D> {
    /// An empty cache. It maps its buffers in this part of the vmap range and keeps at most `limit`
    /// pages, not counting buffers that somebody has.
    pub fn new(disk: D, region: Region, limit: u64) -> BufferCache<D> {
        BufferCache {
            disk,
            region,
            buffers: BTreeMap::new(),
            idle: LruOrder::default(),
            on_disk: BTreeMap::new(),
            pages: 0,
            limit,
            now: 0,
            counts: Counts::default(),
        }
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Pages in memory.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Takes the buffer of a block, which is read from the disk if it isn't in memory. A block
    /// always has the same number of pages. Other buffers are evicted for it when the limit is
    /// reached or memory is short.
    ///
    /// # Errors
    ///
    /// Any of [`Error`].
    pub fn get<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        cpu: usize,
        block: u64,
        pages: u64,
    ) -> Result<Handle, Error> {
        if self.buffers.contains_key(&block) {
            self.counts.hits += 1;
        } else {
            while self.pages + pages > self.limit && self.evict_oldest(mmu)? {}
            let buffer = self.read(mmu, cpu, block, pages)?;
            self.idle.push(block);
            self.pages += buffer.area.pages();
            self.buffers.insert(block, buffer);
        }
        let Some(buffer) = self.buffers.get_mut(&block).filter(|buffer| !buffer.taken) else {
            return Err(Error::Busy);
        };
        buffer.check(mmu, block)?;
        buffer.taken = true;
        self.idle.remove(block);
        Ok(Handle { block, start: buffer.area.start(), pages: buffer.area.pages() })
    }

    /// Gives a buffer back. It stays in memory until it is evicted.
    pub fn put<P: Platform>(&mut self, mmu: &Mmu<P>, handle: Handle, dirty: bool) {
        // Handles come from `get`, and a buffer is not evicted while it is taken.
        let Some(buffer) = self.buffers.get_mut(&handle.block) else { return };
        buffer.taken = false;
        buffer.used = self.now;
        if dirty {
            buffer.dirty = true;
            buffer.sums = buffer.sums_now(mmu);
        }
        self.idle.push(handle.block);
    }

    /// Sets the time, in a unit of the caller's. Evicts buffers that were not used for `age`, and
    /// clears dead mappings of that age.
    ///
    /// # Errors
    ///
    /// Any but [`Error::Busy`].
    pub fn tick<P: Platform>(&mut self, mmu: &mut Mmu<P>, now: u64, age: u64) -> Result<(), Error> {
        self.now = now;
        while let Some(block) = self.idle.first() {
            if now.saturating_sub(self.buffers[&block].used) < age {
                break;
            }
            self.evict(mmu, block)?;
        }
        mmu.purge_aged(now, age)?;
        Ok(())
    }

    /// Evicts buffers of at least so many pages, as far as nobody has them, and clears their
    /// mappings: memory is wanted elsewhere. Returns how many pages were freed.
    ///
    /// # Errors
    ///
    /// Any but [`Error::Busy`].
    pub fn shrink<P: Platform>(&mut self, mmu: &mut Mmu<P>, pages: u64) -> Result<u64, Error> {
        let before = self.pages;
        while before - self.pages < pages && self.evict_oldest(mmu)? {}
        mmu.purge_vmap()?;
        Ok(before - self.pages)
    }

    /// Evicts all buffers that nobody has.
    ///
    /// # Errors
    ///
    /// Any but [`Error::Busy`].
    pub fn clear<P: Platform>(&mut self, mmu: &mut Mmu<P>) -> Result<(), Error> {
        while self.evict_oldest(mmu)? {}
        Ok(())
    }

    fn evict_oldest<P: Platform>(&mut self, mmu: &mut Mmu<P>) -> Result<bool, Error> {
        match self.idle.first() {
            Some(block) => self.evict(mmu, block).map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes a block if it is dirty, unmaps it lazily, and frees its pages at once.
    fn evict<P: Platform>(&mut self, mmu: &mut Mmu<P>, block: u64) -> Result<(), Error> {
        self.idle.remove(block);
        let Some(buffer) = self.buffers.remove(&block) else { return Ok(()) };
        self.pages -= buffer.area.pages();
        self.counts.evictions += 1;
        let checked = buffer.check(mmu, block);
        if buffer.dirty {
            for (page, va) in buffer.addresses().enumerate() {
                let words = core::array::from_fn(|index| mmu.load(word_of(va, index)));
                self.disk.write(block, page, &words);
            }
            self.on_disk.insert(block, buffer.sums);
            self.counts.writes += 1;
        }
        mmu.vunmap(buffer.area)?;
        for frame in buffer.frames {
            mmu.free_frame(frame);
        }
        checked
    }

    fn read<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        cpu: usize,
        block: u64,
        pages: u64,
    ) -> Result<Buffer, Error> {
        let (frames, area) = self.room(mmu, cpu, pages)?;
        let mut words = [0; WORDS];
        for page in 0..frames.len() {
            self.disk.read(block, page, &mut words);
            let start = area.start().page(page as u64);
            for (va, word) in words_of(start).zip(words) {
                mmu.store(va, word);
            }
        }
        self.counts.reads += 1;
        let mut buffer =
            Buffer { frames, area, sums: Vec::new(), taken: false, dirty: false, used: self.now };
        // A block that was never written has no checksum to compare with.
        let known = self.on_disk.get(&block).cloned();
        buffer.sums = known.unwrap_or_else(|| buffer.sums_now(mmu));
        Ok(buffer)
    }

    /// Allocates and maps frames, for which other buffers are evicted if need be.
    fn room<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        cpu: usize,
        pages: u64,
    ) -> Result<(Vec<Pfn>, Area), Error> {
        let mut frames = Vec::new();
        let result = loop {
            if frames.len() as u64 == pages {
                match mmu.vmap_small(self.region, cpu, &frames) {
                    Ok(area) => return Ok((frames, area)),
                    Err(mmu::Error::NoRoom) => {}
                    Err(error) => break Err(error.into()),
                }
            } else if let Ok(frame) = mmu.alloc_frame() {
                frames.push(frame);
                continue;
            }
            match self.evict_oldest(mmu) {
                Ok(true) => {}
                Ok(false) => break Err(mmu::Error::NoFrame.into()),
                Err(error) => break Err(error),
            }
        };
        for frame in frames {
            mmu.free_frame(frame);
        }
        result
    }
}

impl Buffer {
    fn addresses(&self) -> impl Iterator<Item = Vaddr> + use<> {
        let start = self.area.start();
        (0..self.area.pages()).map(move |page| start.page(page))
    }

    fn sums_now<P: Platform>(&self, mmu: &Mmu<P>) -> Vec<u64> {
        self.addresses().map(|va| sum_of(mmu, va)).collect()
    }

    /// Compares the pages with their checksums.
    fn check<P: Platform>(&self, mmu: &Mmu<P>, block: u64) -> Result<(), Error> {
        let sums = self.sums_now(mmu);
        match sums.iter().zip(&self.sums).position(|(now, then)| now != then) {
            Some(page) => Err(Error::Corrupt { block, page, frame: self.frames[page] }),
            None => Ok(()),
        }
    }
}

/// A checksum of a page: FNV-1a, with words in place of bytes.
fn sum_of<P: Platform>(mmu: &Mmu<P>, page: Vaddr) -> u64 {
    words_of(page).fold(FNV_OFFSET_BASIS, |sum, va| (sum ^ mmu.load(va)).wrapping_mul(FNV_PRIME))
}
