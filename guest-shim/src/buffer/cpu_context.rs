//! What buffers need from the CPU that works on them: the mappings' owner for a moment at a time,
//! and words of pages without it.

use crate::addr::Vaddr;
use crate::mmu::Mmu;
use crate::pageable::{Pager, Store};
use crate::platform::Platform;

/// The CPU that a buffer operation runs on. With several CPUs the [`Mmu`] is behind a lock, which
/// [`with_mmu`](CpuContext::with_mmu) takes; pages are copied without it, by all CPUs at once.
pub trait CpuContext {
    /// The machine.
    type Platform: Platform;
    /// Where pages are paged out to.
    type Store: Store;

    /// The CPU's number.
    fn cpu_id(&self) -> usize;

    /// Calls a function with the mappings' owner and the pager.
    fn with_mmu<R>(
        &self,
        work: impl FnOnce(&mut Mmu<Self::Platform>, &mut Pager<Self::Store>) -> R,
    ) -> R;

    /// Reads a word through a mapping that this CPU has.
    fn load(&self, va: Vaddr) -> u64;

    /// Writes a word through a mapping that this CPU has.
    fn store(&self, va: Vaddr, word: u64);
}
