//! What a CPU works with: the owner of the mappings for a moment at a time, and words of pages
//! without it.

use crate::addr::Vaddr;
use crate::mmu::Mmu;
use crate::pageable::{Pager, Store};
use crate::platform::Platform;

/// A CPU's hands. With several CPUs the owner is behind a lock that [`take`](Hands::take) takes;
/// words are touched meanwhile by all.
pub trait Hands {
    /// The machine.
    type Platform: Platform;
    /// Where pages are paged out to.
    type Store: Store;

    /// The CPU.
    fn cpu(&self) -> usize;

    /// Works with the owner of the mappings, and with the storage.
    fn take<R>(
        &self,
        work: impl FnOnce(&mut Mmu<Self::Platform>, &mut Pager<Self::Store>) -> R,
    ) -> R;

    /// Reads a word through a mapping that this CPU has.
    fn load(&self, va: Vaddr) -> u64;

    /// Writes a word through a mapping that this CPU has.
    fn store(&self, va: Vaddr, word: u64);
}
