//! The page tables of the first address space: which frames they are and what is in each.
//!
//! The tables are one run of frames in the order L4, L3s, L2s, L1s (the order that Linux relies on
//! when it reuses the first three). Every entry maps for reading, writing and execution, except
//! that page-table frames are mapped read-only; no entry has the user or the no-execute bit.

use pinfold_abi::layout::PAGE_SIZE;

/// The page tables that map a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// The first frame, the L4.
    pub first: u64,
    /// Tables of level 3, 2 and 1.
    pub counts: [u64; 3],
    virt_base: u64,
    mapped_pages: u64,
}

/// One entry to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Level of the table that the entry is in, 4 to 1.
    pub level: u8,
    /// Frame of that table.
    pub table: u64,
    /// Which entry, 0 to 511.
    pub index: u16,
    /// The frame that it maps: the table below, or a page.
    pub target: u64,
    /// Whether it maps for writing.
    pub writable: bool,
}

/// Shift of the address bits that select an entry of a table of `level`.
const fn shift(level: u8) -> u32 {
    12 + 9 * (level as u32 - 1)
}

impl TablePlan {
    /// Tables for `mapped_pages` pages from `virt_base`, placed at the frame `first`.
    pub(crate) fn new(virt_base: u64, mapped_pages: u64, first: u64) -> TablePlan {
        let last = last_address(virt_base, mapped_pages);
        // As many tables of a level as entries are used in the level above.
        let count = |level: u8| (last >> shift(level + 1)) - (virt_base >> shift(level + 1)) + 1;
        TablePlan { first, counts: [count(3), count(2), count(1)], virt_base, mapped_pages }
    }

    /// Frames of all tables.
    pub const fn count(&self) -> u64 {
        1 + self.counts[0] + self.counts[1] + self.counts[2]
    }

    /// Whether a frame is one of the tables.
    pub const fn contains(&self, pfn: u64) -> bool {
        pfn >= self.first && pfn - self.first < self.count()
    }

    /// The tables, as (frame, level), in the order of their frames.
    pub fn tables(&self) -> impl Iterator<Item = (u64, u8)> + use<> {
        let plan = *self;
        (1..=4u8).rev().flat_map(move |level| {
            let first = plan.first_of(level);
            (first..first + plan.count_of(level)).map(move |pfn| (pfn, level))
        })
    }

    /// Every present entry, in the order of tables and entries. All others are zero.
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + use<> {
        let plan = *self;
        (1..=4u8).rev().flat_map(move |level| {
            let first_entry = plan.virt_base >> shift(level);
            let last_entry = last_address(plan.virt_base, plan.mapped_pages) >> shift(level);
            // Where this level's first table begins, as a number of entries of the level.
            let origin = first_entry & !511;
            (first_entry..=last_entry).map(move |entry| {
                let target = match level {
                    1 => entry - first_entry,
                    _ => plan.first_of(level - 1) + (entry - first_entry),
                };
                TableEntry {
                    level,
                    table: plan.first_of(level) + (entry - origin) / 512,
                    index: (entry % 512) as u16,
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

/// The last byte of the mapping. The plan's maker has checked that it is an address of the same
/// half; and a mapping is never empty.
const fn last_address(virt_base: u64, mapped_pages: u64) -> u64 {
    virt_base.wrapping_add(mapped_pages.wrapping_mul(PAGE_SIZE)).wrapping_sub(1)
}
