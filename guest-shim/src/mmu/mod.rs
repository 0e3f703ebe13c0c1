//! The owner of the guest's mappings: page tables, and the lazy mappings that must be gone before a
//! frame becomes one.
//!
//! **The promise.** No frame becomes a page table, by a pin or by a link into a live table, before
//! `before_pin` has cleared every lazy mapping of it. There is no way around: the calls that make
//! tables are private to this module, tables are values ([`UnpinnedTables`], [`AddressSpace`]) that
//! only this module makes, and the machine below ([`Platform`]) is never handed out.
//!
//! | state of a frame | who has it |
//! |---|---|
//! | free | the pool |
//! | data | the kernel, as a [`Pfn`] |
//! | table being built | an [`UnpinnedTables`]: writable in the direct map |
//! | table in use | an [`AddressSpace`]: read-only in the direct map |
//!
//! | module | what it adds to [`Mmu`] |
//! |---|---|
//! | `frames` | allocating, freeing, reading and writing frames |
//! | `lazy` | vmap areas and kmap slots |
//! | `unpinned`, `address_space`, `subtree` | page tables: being built, in use, linked and unlinked |
//! | `before_pin` | what is done before frames become tables |
//! | `table_pool` | frames that need nothing of that |
//! | `memory_type` | memory types other than write-back |
//! | `rmap`, `migrate` | the reverse map, and moving frames with its help |

mod address_space;
mod before_pin;
#[cfg(feature = "raw")]
mod fault_injection;
mod frames;
mod lazy;
mod memory_type;
mod migrate;
mod rmap;
mod subtree;
mod table_pool;
mod unpinned;
mod window;

pub use crate::entries::Leaf;
pub use crate::error::Error;
pub use crate::frames::{MemoryType, Reuse};
pub use crate::stats::Stats;
pub use address_space::AddressSpace;
#[cfg(feature = "raw")]
pub use fault_injection::ForgottenMapping;
pub use migrate::Unmapped;
pub use unpinned::UnpinnedTables;

use crate::addr::{Pfn, TABLE_ENTRIES, Vaddr};
use crate::entries::{Entries, EntryWriter, FreedMap, Window};
use crate::frames::{FramePool, References};
use crate::kmap::Kmap;
use crate::platform::Platform;
use crate::vmap::{Policy, Vmap, WHOLE_RANGE};

/// Where the lazy mappings are, and how they are cleared.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// First address of the vmap range, in an L4 slot that nothing else uses.
    pub vmap_start: Vaddr,
    /// Pages of the vmap range: a multiple of 512, at most 2^17.
    pub vmap_pages: u64,
    /// First address of the kmap slots, in an L4 slot that nothing else uses.
    pub kmap_start: Vaddr,
    /// Persistent kmap slots: as many as fit in 512 pages beside an atomic pair for each CPU.
    pub kmap_slots: usize,
    /// CPUs of the guest, at least 1.
    pub cpus: usize,
    /// When dead mappings are cleared.
    pub policy: Policy,
    /// Frames that are cleaned at a time for page tables; 0: see
    /// [`set_table_pool`](Mmu::set_table_pool).
    pub table_pool: usize,
}

/// The owner of the guest's mappings.
#[derive(Debug)]
pub struct Mmu<P: Platform> {
    entries: EntryWriter<P>,
    vmap: Vmap,
    kmap: Kmap,
    references: References,
}

impl<P: Platform> Mmu<P> {
    /// Takes ownership of the guest's mappings, and builds the tables of the vmap and kmap ranges
    /// below the loaded root. `free` are the frames that nothing uses: the direct map maps them
    /// writable, and nothing else does. No frame in use has a number between theirs.
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
            entries: EntryWriter::new(platform, FramePool::new(free)),
            vmap: Vmap::empty(config.policy),
            kmap: Kmap::empty(),
            references: References::default(),
        };
        let window = mmu.open_window(config.vmap_start, config.vmap_pages)?;
        let freed = mmu.name_window(&window, WHOLE_RANGE);
        mmu.vmap = Vmap::new(window, freed, config.policy, config.cpus);
        let window = mmu.open_window(config.kmap_start, TABLE_ENTRIES as u64)?;
        let freed = mmu.name_window(&window, "kmap");
        mmu.kmap = Kmap::new(window, freed, config.cpus, config.kmap_slots);
        mmu.set_table_pool(config.table_pool);
        Ok(mmu)
    }

    fn name_window(&mut self, window: &Window, name: &str) -> FreedMap {
        let freed = FreedMap::new(window.pages());
        self.entries.name_range(window.range(), name, freed.words());
        freed
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.entries.stats
    }
}
