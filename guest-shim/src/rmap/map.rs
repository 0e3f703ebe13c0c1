//! The map itself.

use crate::addr::{PAGE_SIZE, Pfn, Vaddr};
use crate::frames::FrameSet;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// An entry that maps a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Machine address of the entry.
    pub(crate) ptr: u64,
    /// The frame that it maps.
    pub(crate) frame: Pfn,
    /// The address that it was made for. For tables without a root it is the part of an address
    /// that they translate.
    pub(crate) va: Vaddr,
    /// The entry.
    pub(crate) entry: u64,
}

/// The map: for each frame, the entries that map it.
#[derive(Debug, Default)]
pub(crate) struct Rmap {
    by_entry: BTreeMap<u64, Mapping>,
    by_frame: BTreeSet<(Pfn, u64)>,
    /// Machine addresses of tables that are not in use: no address space has their mappings.
    idle_tables: BTreeSet<u64>,
}

impl Rmap {
    /// Records what an entry maps.
    pub(crate) fn set(&mut self, mapping: Mapping) {
        self.clear(mapping.ptr);
        self.by_frame.insert((mapping.frame, mapping.ptr));
        self.by_entry.insert(mapping.ptr, mapping);
    }

    /// Removes an entry. Returns what it mapped.
    pub(crate) fn clear(&mut self, ptr: u64) -> Option<Mapping> {
        let mapping = self.by_entry.remove(&ptr)?;
        self.by_frame.remove(&(mapping.frame, ptr));
        Some(mapping)
    }

    /// Records that tables, given by their machine addresses, are in use or not.
    pub(crate) fn set_in_use(&mut self, tables: impl Iterator<Item = u64>, in_use: bool) {
        for table in tables {
            if in_use {
                self.idle_tables.remove(&table);
            } else {
                self.idle_tables.insert(table);
            }
        }
    }

    /// Removes tables and all their entries.
    pub(crate) fn drop_tables(&mut self, tables: impl Iterator<Item = u64>) {
        for table in tables {
            self.idle_tables.remove(&table);
            let entries = self.by_entry.range(table..table + PAGE_SIZE);
            let entries: Vec<u64> = entries.map(|(&ptr, _)| ptr).collect();
            for ptr in entries {
                self.clear(ptr);
            }
        }
    }

    /// Whether the entry is one of a table that is in use.
    pub(super) fn is_in_use(&self, ptr: u64) -> bool {
        !self.idle_tables.contains(&(ptr & !(PAGE_SIZE - 1)))
    }

    /// The entries that map these frames, in the order of their machine addresses.
    pub(crate) fn of(&self, frames: &FrameSet) -> Vec<Mapping> {
        let of_one = |pfn| self.by_frame.range((pfn, 0)..=(pfn, u64::MAX));
        let mut found: Vec<Mapping> = frames
            .iter()
            .flat_map(of_one)
            .filter_map(|(_, ptr)| self.by_entry.get(ptr).copied())
            .collect();
        found.sort_unstable_by_key(|mapping| mapping.ptr);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(ptr: u64, frame: u64) -> Mapping {
        Mapping { ptr, frame: Pfn(frame), va: Vaddr(ptr << 9), entry: Pfn(frame).address() | 1 }
    }

    fn entries(rmap: &Rmap, frames: &[u64]) -> Vec<u64> {
        let frames: FrameSet = frames.iter().copied().map(Pfn).collect();
        rmap.of(&frames).iter().map(|mapping| mapping.ptr).collect()
    }

    #[test]
    fn a_frame_has_the_entries_that_map_it_now() {
        let mut rmap = Rmap::default();
        for (ptr, frame) in [(0x5008, 1), (0x3000, 1), (0x4ff8, 2), (0x7000, 3)] {
            rmap.set(mapping(ptr, frame));
        }
        assert_eq!(entries(&rmap, &[1]), [0x3000, 0x5008]);
        assert_eq!(entries(&rmap, &[2, 1]), [0x3000, 0x4ff8, 0x5008]);
        rmap.set(mapping(0x3000, 2));
        assert_eq!(entries(&rmap, &[1]), [0x5008]);
        assert_eq!(entries(&rmap, &[2]), [0x3000, 0x4ff8]);
        assert_eq!(rmap.clear(0x5008), Some(mapping(0x5008, 1)));
        assert_eq!(rmap.clear(0x5008), None);
        assert_eq!(entries(&rmap, &[1, 4]), []);
    }

    #[test]
    fn dropping_a_table_removes_its_entries() {
        let mut rmap = Rmap::default();
        for ptr in [0x4ff8, 0x5000, 0x5ff8, 0x6000] {
            rmap.set(mapping(ptr, 1));
        }
        rmap.set_in_use([0x5000].into_iter(), false);
        assert!(!rmap.is_in_use(0x5ff8) && rmap.is_in_use(0x6000));
        rmap.drop_tables([0x5000].into_iter());
        assert_eq!(entries(&rmap, &[1]), [0x4ff8, 0x6000]);
        assert!(rmap.is_in_use(0x5ff8), "it is nobody's");
    }
}
