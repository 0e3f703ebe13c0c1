//! Counts the stray mappings that a broken form leaves behind on purpose.

use crate::failure::Failure;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Pfn;
use pinfold_guest::mmu::UnpinnedTables;

/// The result of a broken form: all three numbers must be equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Mappings left behind, each of a frame that then became a page table.
    pub(crate) seeded: u64,
    /// Pins that were refused because of one.
    pub(crate) refused: u64,
    /// Mappings that the hypervisor named, where it can be asked.
    pub(crate) named: u64,
}

/// The counters behind a [`Tally`], for all vCPUs.
#[derive(Debug, Default)]
pub(crate) struct SeededAliases {
    seeded: AtomicU64,
    refused: AtomicU64,
    named: AtomicU64,
}

impl SeededAliases {
    /// Counts tables that were just made of a frame with a seeded alias. If the frame is given, it
    /// must be one of theirs.
    pub(crate) fn table(
        &self,
        tree: UnpinnedTables,
        frame: Option<Pfn>,
    ) -> Result<UnpinnedTables, Failure> {
        if frame.is_some_and(|frame| !tree.frames().contains(&frame)) {
            return Err(Failure::Other("the frame that was freed last was not allocated first"));
        }
        self.seeded.fetch_add(1, SeqCst);
        Ok(tree)
    }

    /// Counts a refused pin, and how many of its mappings were named.
    pub(crate) fn refused(&self, named: u64) {
        self.refused.fetch_add(1, SeqCst);
        self.named.fetch_add(named, SeqCst);
    }

    /// Returns the numbers.
    pub(crate) fn tally(&self) -> Tally {
        let [seeded, refused, named] =
            [&self.seeded, &self.refused, &self.named].map(|count| count.load(SeqCst));
        Tally { seeded, refused, named }
    }
}
