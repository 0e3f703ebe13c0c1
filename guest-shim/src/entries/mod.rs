//! The page-table entries below everything that maps frames.
//!
//! All leaf entries are made in one place, [`EntryWriter::leaf_entry`]: it applies the memory type
//! of the frame and removes the clean mark of a frame that becomes writable somewhere. The reverse
//! map is updated where an entry is written or cleared.
//!
//! [`Vmap`](crate::vmap) and [`Kmap`](crate::kmap) see it as [`Entries`]: addresses and frames, no
//! tables and no hypercalls.

mod freed_map;
mod leaf;
mod window;
mod writer;

pub(crate) use freed_map::FreedMap;
pub use leaf::Leaf;
pub(crate) use window::Window;
pub(crate) use writer::EntryWriter;

use crate::addr::{Pfn, Vaddr};
use crate::hypercall::Errno;
use crate::stats::Stats;
use pinfold_abi::pinfold::Range;

/// The entries of the vmap and kmap windows.
pub(crate) trait Entries {
    /// Maps frames, writable, at consecutive pages from `start` on. No TLB is flushed: the pages
    /// were not mapped.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal. Some pages may be mapped then.
    fn map(&mut self, start: Vaddr, frames: &[Pfn]) -> Result<(), Errno>;

    /// Maps a frame, writable, at a page in place of what is mapped there, and flushes the page on
    /// all vCPUs.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal. The page maps what it did before.
    fn replace(&mut self, page: Vaddr, frame: Pfn) -> Result<(), Errno>;

    /// Clears single pages, with a flush of each address on all vCPUs.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    fn clear_pages(&mut self, pages: &[Vaddr]) -> Result<(), Errno>;

    /// Clears ranges of pages and flushes all vCPUs that may know one of them, with one flush for
    /// many ranges. Returns how many pages were mapped.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    fn clear_ranges(&mut self, ranges: &[Range]) -> Result<u64, Errno>;

    /// Frees a frame whose last dead mapping was cleared, if its free was deferred until then.
    fn free_deferred(&mut self, frame: Pfn);

    /// Tells the hypervisor the name of a range of pages and where the bits of its freed pages are,
    /// for reports.
    fn name_range(&mut self, range: Range, name: &str, freed: &[core::sync::atomic::AtomicU64]);

    /// Takes the name back from the range that begins at this page.
    fn forget_name(&mut self, start: Vaddr);

    /// The counters.
    fn stats(&mut self) -> &mut Stats;
}
