//! The owner of the guest's mappings: page tables, and the lazy mappings that must never meet
//! them.
//!
//! **The promise.** No frame becomes a page table, by a pin or by being linked into a live table,
//! before `before_pin` has dealt with every lazy mapping of it. There is no other way: the
//! calls that make tables are private to this module, tables are values ([`UnpinnedTables`], [`AddressSpace`])
//! that only it makes, and the machine below ([`Platform`]) is never handed out.
//!
//! | state of a frame | who holds it |
//! |---|---|
//! | free | the pool |
//! | data | the kernel, as a [`Pfn`] |
//! | table being built | a [`UnpinnedTables`]: writable at its home |
//! | table in use | a [`AddressSpace`]: read-only at its home |

mod address_space;
mod before_pin;
#[cfg(feature = "raw")]
mod fault_injection;
mod memory_type;
mod stats;
mod subtree;
mod unpinned;
mod window;

pub use address_space::AddressSpace;
pub use memory_type::MemoryType;
use memory_type::MemoryTypes;
pub use stats::Stats;
pub use unpinned::{Leaf, UnpinnedTables};
pub(crate) use window::Window;

use crate::addr::{PAGE_SIZE, Pfn, Vaddr};
use crate::dma::References;
use crate::frames::FramePool;
pub use crate::frames::Reuse;
use crate::freed::FreedMap;
use crate::hypercall::Errno;
use crate::kmap::Kmap;
use crate::platform::Platform;
use crate::rmap::Rmap;
use crate::table_pool::TablePool;
use crate::vmap::{Policy, Vmap};

/// Why something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No free frame, even after all lazy mappings were cleared.
    NoFrame,
    /// No free range of addresses, or no free slot.
    NoRoom,
    /// The frame is mapped, on purpose, at this address: it can't become a page table.
    InUse(Vaddr),
    /// Somebody outside of the kernel writes to the frame: it can't become a page table.
    InIo {
        /// The frame.
        frame: Pfn,
        /// Who.
        holder: &'static str,
    },
    /// Nothing that the call is about is mapped at this address.
    NotMapped(Vaddr),
    /// The hypervisor refused.
    Refused(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NoFrame => f.write_str("no free frame"),
            Error::NoRoom => f.write_str("no free addresses"),
            Error::InUse(va) => write!(f, "the frame is in use at {va}"),
            Error::InIo { frame, holder } => write!(f, "{holder} holds frame {frame}"),
            Error::NotMapped(va) => write!(f, "nothing is mapped at {va}"),
            Error::Refused(errno) => write!(f, "the hypervisor refused: {errno}"),
        }
    }
}

/// Where the lazy mappings go, and how they are cleared.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// First address of the vmap range: in an L4 slot that nothing else uses.
    pub vmap_start: Vaddr,
    /// Pages of the vmap range: a multiple of 512, at most 2^17.
    pub vmap_pages: u64,
    /// First address of the kmap slots: in an L4 slot that nothing else uses.
    pub kmap_start: Vaddr,
    /// Persistent kmap slots: as many as 512 pages hold besides an atomic pair for each CPU.
    pub kmap_slots: usize,
    /// CPUs of the guest, at least 1.
    pub cpus: usize,
    /// What becomes of mappings that are no longer used.
    pub policy: Policy,
    /// Frames that are cleaned at a time for page tables; 0: see
    /// [`set_table_pool`](Mmu::set_table_pool).
    pub table_pool: usize,
}

/// The owner of the guest's mappings.
#[derive(Debug)]
pub struct Mmu<P: Platform> {
    pub(crate) platform: P,
    pub(crate) frames: FramePool,
    pub(crate) tables: TablePool,
    pub(crate) vmap: Vmap,
    pub(crate) kmap: Kmap,
    pub(crate) references: References,
    pub(crate) memory: MemoryTypes,
    /// Kept if the kernel wants it.
    pub(crate) rmap: Option<Rmap>,
    pub(crate) stats: Stats,
}

impl<P: Platform> Mmu<P> {
    /// Takes over: `free` are the frames that nothing uses, mapped writable at their homes and
    /// nowhere else, with no frame in between that something uses. Builds the tables of the vmap and kmap ranges below the loaded root.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`] without frames for the tables, or the hypervisor's refusal.
    pub fn new(
        platform: P,
        free: impl IntoIterator<Item = Pfn>,
        config: &Config,
    ) -> Result<Mmu<P>, Error> {
        let mut mmu = Mmu {
            platform,
            frames: FramePool::new(free),
            tables: TablePool::default(),
            vmap: Vmap::closed(config.policy),
            kmap: Kmap::closed(),
            references: References::default(),
            memory: MemoryTypes::default(),
            rmap: None,
            stats: Stats::default(),
        };
        let window = mmu.open_window(config.vmap_start, config.vmap_pages)?;
        let freed = mmu.name_region(&window, crate::vmap::NAME);
        mmu.vmap = Vmap::new(window, freed, config.policy, config.cpus);
        let window = mmu.open_window(config.kmap_start, 512)?;
        let freed = mmu.name_region(&window, "kmap");
        mmu.kmap = Kmap::new(window, freed, config.cpus, config.kmap_slots);
        mmu.set_table_pool(config.table_pool);
        Ok(mmu)
    }

    fn name_region(&mut self, window: &Window, name: &str) -> FreedMap {
        let freed = FreedMap::new(window.pages());
        // Names and bits serve reports; a hypervisor that keeps none is as good.
        let _ = self.platform.name_region(window.range(), name);
        let _ = self.platform.freed_map(window.va(0), freed.bits());
        freed
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A frame with nothing particular in it.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`], after lazy mappings were cleared in vain.
    pub fn alloc_frame(&mut self) -> Result<Pfn, Error> {
        if self.frames.available() == 0 && self.frames.held() > 0 {
            self.purge_vmap()?;
        }
        self.frames.alloc().or_else(|| self.tables.give_up()).ok_or(Error::NoFrame)
    }

    /// Gives a frame back. Lazy mappings of it may still exist: with [`Policy::HoldRefs`] it is
    /// then kept until they are cleared, with the others it can be used again at once. A frame that
    /// somebody [holds](Mmu::holders) is kept until he lets it go.
    ///
    /// # Panics
    ///
    /// If the frame is none that was given out here, or not write-back: whoever gets it next, as a
    /// page table perhaps, expects it to be.
    pub fn free_frame(&mut self, pfn: Pfn) {
        assert!(self.frames.covers(pfn), "frame {pfn} is not for data");
        let memory = self.memory.of(pfn);
        assert!(memory == MemoryType::WriteBack, "frame {pfn} is freed as {}", memory.name());
        if self.references.keep(pfn) {
            return;
        }
        if self.vmap.policy() == Policy::HoldRefs && self.vmap.has_lazy(pfn) {
            self.frames.hold(pfn);
        } else {
            self.frames.free(pfn);
        }
    }

    /// Says which free frame is used next.
    pub fn set_reuse(&mut self, reuse: Reuse) {
        self.frames.reuse = reuse;
    }

    /// Frames that can be had without clearing anything.
    pub fn free_frames(&self) -> usize {
        self.frames.available() + self.tables.len()
    }

    /// Reads a word of a frame, at its home.
    ///
    /// # Panics
    ///
    /// If `index` is not below 512.
    pub fn read(&self, pfn: Pfn, index: usize) -> u64 {
        self.platform.load(word_of(self.platform.direct_map_va(pfn), index))
    }

    /// Writes a word of a data frame, at its home.
    ///
    /// # Panics
    ///
    /// If `index` is not below 512, or the frame is none that was given out here.
    pub fn write(&mut self, pfn: Pfn, index: usize, word: u64) {
        assert!(self.frames.covers(pfn), "frame {pfn} is not for data");
        let home = self.platform.direct_map_va(pfn);
        self.platform.store(word_of(home, index), word);
    }

    /// Reads a word through any mapping.
    pub fn load(&self, va: Vaddr) -> u64 {
        self.platform.load(va)
    }

    /// Writes a word through a mapping that [`vmap`](Mmu::vmap) or [`kmap`](Mmu::kmap) made, or
    /// that the loaded space has in its lower half.
    ///
    /// # Panics
    ///
    /// If the address is neither.
    pub fn store(&mut self, va: Vaddr, word: u64) {
        let lower_half = va.0 >> 47 == 0;
        let ours = lower_half || self.vmap.covers(va) || self.kmap.covers(va);
        assert!(ours, "{va} is not for data");
        self.platform.store(va, word);
    }

    /// The machine frame of a pfn.
    pub fn mfn(&self, pfn: Pfn) -> crate::addr::Mfn {
        self.platform.mfn(pfn)
    }

    /// Where a frame is always mapped.
    pub fn direct_map_va(&self, pfn: Pfn) -> Vaddr {
        self.platform.direct_map_va(pfn)
    }

    /// Every mapping that the hypervisor knows of these frames.
    ///
    /// # Errors
    ///
    /// -ENOSYS where there is no such call.
    pub fn find_aliases(
        &mut self,
        frames: &[Pfn],
    ) -> Result<alloc::vec::Vec<pinfold_abi::pinfold::Mapping>, Errno> {
        let frames: alloc::vec::Vec<_> = frames.iter().map(|&pfn| self.platform.mfn(pfn)).collect();
        self.platform.find_aliases(&frames)
    }

    fn clear_frame(&mut self, pfn: Pfn) {
        for index in 0..(PAGE_SIZE / 8) as usize {
            self.write(pfn, index, 0);
        }
    }
}

fn word_of(page: Vaddr, index: usize) -> Vaddr {
    assert!(index < 512, "a page has 512 words");
    Vaddr(page.0 + index as u64 * 8)
}
