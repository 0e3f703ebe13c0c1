//! The page tables of the first address space: which frames they are, and their entries.
//!
//! The tables are consecutive frames in the order L4, L3s, L2s, L1s; Linux relies on that when it
//! reuses the first three. All entries allow reading, writing and execution, except that page-table
//! frames are mapped read-only. No entry has the user or the no-execute bit.

use pinfold_abi::address::{PAGE_SIZE, Pfn};
use pinfold_abi::paging::{Index, Level, TABLE_ENTRIES};

const ENTRIES: u64 = TABLE_ENTRIES as u64;
/// The levels in the order of their tables.
const LEVELS: [Level; 4] = [Level::L4, Level::L3, Level::L2, Level::L1];

/// The page tables that map a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// Pfn of the first table, the L4.
    pub first: u64,
    /// Number of tables of level 3, 2 and 1.
    pub counts: [u64; 3],
    virt_base: u64,
    mapped_pages: u64,
}

/// A present page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Level of the table that holds the entry.
    pub level: Level,
    /// Pfn of that table.
    pub table: Pfn,
    /// Index of the entry.
    pub index: Index,
    /// Pfn that the entry maps: a table of the next lower level, or a page.
    pub target: Pfn,
    /// Whether the entry allows writing.
    pub writable: bool,
}

impl TableLayout {
    /// Tables that map `mapped_pages` pages from the address `virt_base` on, from pfn `first` on.
    pub(crate) fn new(virt_base: u64, mapped_pages: u64, first: u64) -> TableLayout {
        let last = last_address(virt_base, mapped_pages);
        // There are as many tables of a level as entries are used in the level above.
        let count = |above: Level| (last >> above.shift()) - (virt_base >> above.shift()) + 1;
        TableLayout {
            first,
            counts: [count(Level::L4), count(Level::L3), count(Level::L2)],
            virt_base,
            mapped_pages,
        }
    }

    /// Number of all tables.
    pub const fn count(&self) -> u64 {
        1 + self.counts[0] + self.counts[1] + self.counts[2]
    }

    /// Whether the page at `pfn` is one of the tables.
    pub const fn contains(&self, pfn: u64) -> bool {
        pfn >= self.first && pfn - self.first < self.count()
    }

    /// The tables as (pfn, level), in the order of their pfns.
    pub fn tables(&self) -> impl Iterator<Item = (u64, Level)> + use<> {
        let layout = *self;
        LEVELS.into_iter().flat_map(move |level| {
            let first = layout.first_of(level);
            (first..first + layout.count_of(level)).map(move |pfn| (pfn, level))
        })
    }

    /// All present entries, in the order of tables and entries. All others are zero.
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + use<> {
        let layout = *self;
        LEVELS.into_iter().flat_map(move |level| {
            let first_entry = layout.virt_base >> level.shift();
            let last_entry = last_address(layout.virt_base, layout.mapped_pages) >> level.shift();
            // First entry of this level's first table, counted from address 0.
            let origin = first_entry - first_entry % ENTRIES;
            (first_entry..=last_entry).map(move |entry| {
                let offset = entry - first_entry;
                let target = level.below().map_or(offset, |below| layout.first_of(below) + offset);
                TableEntry {
                    level,
                    table: Pfn::new(layout.first_of(level) + (entry - origin) / ENTRIES),
                    index: Index::new_truncate(entry),
                    target: Pfn::new(target),
                    writable: level != Level::L1 || !layout.contains(target),
                }
            })
        })
    }

    const fn first_of(&self, level: Level) -> u64 {
        match level {
            Level::L4 => self.first,
            Level::L3 => self.first + 1,
            Level::L2 => self.first + 1 + self.counts[0],
            Level::L1 => self.first + 1 + self.counts[0] + self.counts[1],
        }
    }

    const fn count_of(&self, level: Level) -> u64 {
        match level {
            Level::L4 => 1,
            Level::L3 => self.counts[0],
            Level::L2 => self.counts[1],
            Level::L1 => self.counts[2],
        }
    }
}

/// Address of the last byte of the mapping, which is never empty. The caller of [`TableLayout::new`]
/// has checked that it is in the same half of the address space as the first.
const fn last_address(virt_base: u64, mapped_pages: u64) -> u64 {
    virt_base.wrapping_add(mapped_pages.wrapping_mul(PAGE_SIZE)).wrapping_sub(1)
}
