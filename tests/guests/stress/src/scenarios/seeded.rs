//! Counting what a broken form leaves behind.

use crate::violation::Wrong;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Pfn;
use pinfold_guest::mmu::UnpinnedTables;

/// What a broken form did: all three must be the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Mappings left behind on purpose, each of a frame that a table was made of.
    pub(crate) seeded: u64,
    /// Tables that were refused because of one.
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
    /// Counts a table that is about to be made of a frame with a mapping left behind; of this
    /// frame, if it is known.
    pub(crate) fn table(
        &self,
        tree: UnpinnedTables,
        frame: Option<Pfn>,
    ) -> Result<UnpinnedTables, Wrong> {
        if frame.is_some_and(|frame| !tree.frames().contains(&frame)) {
            return Err(Wrong::Told("another frame than the one freed last was given out"));
        }
        self.seeded.fetch_add(1, SeqCst);
        Ok(tree)
    }

    /// Counts that it was refused, and how many of its mappings were named.
    pub(crate) fn refused(&self, named: u64) {
        self.refused.fetch_add(1, SeqCst);
        self.named.fetch_add(named, SeqCst);
    }

    /// The figures.
    pub(crate) fn tally(&self) -> Tally {
        let [seeded, refused, named] =
            [&self.seeded, &self.refused, &self.named].map(|count| count.load(SeqCst));
        Tally { seeded, refused, named }
    }
}
