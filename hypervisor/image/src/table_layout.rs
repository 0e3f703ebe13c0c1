//! The page tables of the first address space: which frames they are, and their entries.
//!
//! The tables are consecutive frames in the order L4, L3s, L2s, L1s; Linux relies on that when it
//! reuses the first three. All entries allow reading, writing and execution, except that page-table
//! frames are mapped read-only. No entry has the user or the no-execute bit.

use pinfold_abi::layout::PAGE_SIZE;

/// Entries of a page table.
const ENTRIES: u64 = 512;

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
    /// Level of the table that holds the entry, 4 to 1.
    pub level: u8,
    /// Pfn of that table.
    pub table: u64,
    /// Index of the entry, 0 to 511.
    pub index: u16,
    /// Pfn that the entry maps: a table of the next lower level, or a page.
    pub target: u64,
    /// Whether the entry allows writing.
    pub writable: bool,
}

/// Lowest address bit of those that select an entry of a table of `level`.
const fn shift(level: u8) -> u32 {
    PAGE_SIZE.ilog2() + ENTRIES.ilog2() * (level as u32 - 1)
}

impl TableLayout {
    /// Tables that map `mapped_pages` pages from the address `virt_base` on, from pfn `first` on.
    pub(crate) fn new(virt_base: u64, mapped_pages: u64, first: u64) -> TableLayout {
        let last = last_address(virt_base, mapped_pages);
        // There are as many tables of a level as entries are used in the level above.
        let count = |level: u8| (last >> shift(level + 1)) - (virt_base >> shift(level + 1)) + 1;
        TableLayout { first, counts: [count(3), count(2), count(1)], virt_base, mapped_pages }
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
    pub fn tables(&self) -> impl Iterator<Item = (u64, u8)> + use<> {
        let plan = *self;
        (1..=4u8).rev().flat_map(move |level| {
            let first = plan.first_of(level);
            (first..first + plan.count_of(level)).map(move |pfn| (pfn, level))
        })
    }

    /// All present entries, in the order of tables and entries. All others are zero.
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + use<> {
        let plan = *self;
        (1..=4u8).rev().flat_map(move |level| {
            let first_entry = plan.virt_base >> shift(level);
            let last_entry = last_address(plan.virt_base, plan.mapped_pages) >> shift(level);
            // First entry of this level's first table, counted from address 0.
            let origin = first_entry - first_entry % ENTRIES;
            (first_entry..=last_entry).map(move |entry| {
                let target = match level {
                    1 => entry - first_entry,
                    _ => plan.first_of(level - 1) + (entry - first_entry),
                };
                TableEntry {
                    level,
                    table: plan.first_of(level) + (entry - origin) / ENTRIES,
                    index: (entry % ENTRIES) as u16,
                    target,
                    writable: level > 1 || !plan.contains(target),
                }
            })
        })
    }

    const fn first_of(&self, level: u8) -> u64 {
        match level {
            4 => self.first,
            3 => self.first + 1,
            2 => self.first + 1 + self.counts[0],
            _ => self.first + 1 + self.counts[0] + self.counts[1],
        }
    }

    const fn count_of(&self, level: u8) -> u64 {
        match level {
            4 => 1,
            3 => self.counts[0],
            2 => self.counts[1],
            _ => self.counts[2],
        }
    }
}

/// Address of the last byte of the mapping, which is never empty. The caller of [`TableLayout::new`]
/// has checked that it is in the same half of the address space as the first.
const fn last_address(virt_base: u64, mapped_pages: u64) -> u64 {
    virt_base.wrapping_add(mapped_pages.wrapping_mul(PAGE_SIZE)).wrapping_sub(1)
}
