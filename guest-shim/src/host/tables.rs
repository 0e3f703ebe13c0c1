//! Walks of page tables, and the check that no live one is mapped writable.

use crate::addr::{Index, Level, Mfn, PAGE_WORDS, Pfn, Vaddr};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};

/// Number of the machine frame of pfn 0. It is not 0, so that code that takes one for the other
/// fails.
const FIRST_MFN: u64 = 0x1000;

/// A leaf entry of a live table.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafEntry {
    /// The address that it translates, as far as the table is below a root.
    pub(super) va: Vaddr,
    pub(super) table: Pfn,
    pub(super) index: Index,
    pub(super) entry: u64,
}

/// The words of all frames.
#[derive(Debug)]
pub(super) struct Memory(Vec<Box<[u64; PAGE_WORDS]>>);

impl Memory {
    pub(super) fn new(frames: u64) -> Memory {
        Memory((0..frames).map(|_| Box::new([0; PAGE_WORDS])).collect())
    }

    pub(super) fn frames(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn word(&mut self, pfn: Pfn, index: usize) -> &mut u64 {
        &mut self.0[pfn.0 as usize][index]
    }

    pub(super) fn read(&self, pfn: Pfn, index: usize) -> u64 {
        self.0[pfn.0 as usize][index]
    }

    pub(super) fn mfn(pfn: Pfn) -> Mfn {
        Mfn(pfn.0 + FIRST_MFN)
    }

    pub(super) fn pfn(&self, mfn: Mfn) -> Option<Pfn> {
        let pfn = mfn.0.checked_sub(FIRST_MFN)?;
        (pfn < self.frames()).then_some(Pfn(pfn))
    }

    /// The frame that a present entry points to.
    pub(super) fn target(&self, entry: u64) -> Option<Pfn> {
        let present = entry & EntryFlags::PRESENT.bits() != 0;
        present.then(|| self.pfn(Mfn::from_address(entry & ENTRY_ADDRESS)))?
    }

    /// The leaf table that translates an address below a root.
    pub(super) fn leaf_table(&self, root: Pfn, va: Vaddr) -> Option<Pfn> {
        [Level::L4, Level::L3, Level::L2]
            .into_iter()
            .try_fold(root, |table, level| self.target(self.read(table, va.index(level).get())))
    }

    /// All tables that these roots reach, and their leaf entries.
    pub(super) fn walk(&self, roots: &BTreeMap<Pfn, Level>) -> (BTreeSet<Pfn>, Vec<LeafEntry>) {
        let (mut tables, mut leaves) = (BTreeSet::new(), Vec::new());
        for (&root, &level) in roots {
            self.walk_table(root, level, [Index::new(0); 4], &mut tables, &mut leaves);
        }
        (tables, leaves)
    }

    fn walk_table(
        &self,
        table: Pfn,
        level: Level,
        path: [Index; 4],
        tables: &mut BTreeSet<Pfn>,
        leaves: &mut Vec<LeafEntry>,
    ) {
        tables.insert(table);
        for index in (0..PAGE_WORDS).map(Index::new) {
            let entry = self.read(table, index.get());
            let Some(target) = self.target(entry) else { continue };
            let mut path = path;
            path[Level::L4 as usize - level as usize] = index;
            match level.below() {
                Some(below) => self.walk_table(target, below, path, tables, leaves),
                None => {
                    let [l4, l3, l2, l1] = path;
                    let va = Vaddr::from_indexes(l4, l3, l2, l1);
                    leaves.push(LeafEntry { va, table, index, entry });
                }
            }
        }
    }

    /// Whether no table that these roots reach is mapped writable by one that they reach.
    pub(super) fn is_valid(&self, roots: &BTreeMap<Pfn, Level>) -> bool {
        let (tables, leaves) = self.walk(roots);
        leaves.iter().all(|leaf| {
            let writable = leaf.entry & EntryFlags::WRITABLE.bits() != 0;
            !(writable && self.target(leaf.entry).is_some_and(|pfn| tables.contains(&pfn)))
        })
    }
}
