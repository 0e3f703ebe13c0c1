//! Levels and slots of page tables under 4-level paging
//! (SDM volume 3, 5.5 "4-Level Paging and 5-Level Paging").

use crate::address::{Mfn, PAGE_SHIFT, Vaddr};
use crate::layout::HYPERVISOR_SLOTS;
use core::fmt;

/// Number of entries of a page table at any level.
pub const TABLE_ENTRIES: usize = 512;
/// log2 of [`TABLE_ENTRIES`].
const INDEX_BITS: u32 = 9;
/// Size of an entry in bytes.
const ENTRY_SIZE: u64 = 8;

/// Level of a page table: L1 tables map pages, an L4 table is a root (CR3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "a level is its number")]
pub enum Level {
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::L4];

    /// The level with this number, 1 to 4, or `None`.
    pub const fn from_number(number: u64) -> Option<Level> {
        Some(match number {
            1 => Level::L1,
            2 => Level::L2,
            3 => Level::L3,
            4 => Level::L4,
            _ => return None,
        })
    }

    /// Level of the tables that entries of this level point to. `None` for L1.
    pub const fn below(self) -> Option<Level> {
        Level::from_number(self as u64 - 1)
    }

    /// Level of the tables whose entries point to this level. `None` for L4.
    pub const fn above(self) -> Option<Level> {
        Level::from_number(self as u64 + 1)
    }

    /// Lowest of the address bits that select the slot in a table of this level.
    #[inline]
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + INDEX_BITS * (self as u32 - 1)
    }

    /// Number of 4 KiB pages that one entry of a table of this level covers.
    pub const fn pages_per_entry(self) -> u64 {
        1 << (self.shift() - PAGE_SHIFT)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", *self as u8)
    }
}

/// Slot of a page table, 0 to 511.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(u16);

impl Index {
    /// The slot with this number, or `None` above 511.
    #[expect(clippy::cast_possible_truncation, reason = "below 512")]
    pub const fn try_new(slot: usize) -> Option<Index> {
        if slot < TABLE_ENTRIES { Some(Index(slot as u16)) } else { None }
    }

    /// The slot of the low nine bits of a number.
    #[expect(clippy::cast_possible_truncation, reason = "below 512")]
    pub const fn new_truncate(slot: u64) -> Index {
        Index((slot % TABLE_ENTRIES as u64) as u16)
    }

    /// The slot with this number, which must not come from a guest.
    ///
    /// # Panics
    /// If the number is above 511.
    #[expect(clippy::cast_possible_truncation, reason = "below 512")]
    pub const fn new(slot: usize) -> Index {
        assert!(slot < TABLE_ENTRIES);
        Index(slot as u16)
    }

    /// The number of the slot, below 512.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// Whether this slot of a root is reserved for the hypervisor (`INV-RESERVED`).
    pub const fn is_reserved(self) -> bool {
        HYPERVISOR_SLOTS.start <= self.get() && self.get() < HYPERVISOR_SLOTS.end
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Vaddr {
    /// The canonical address whose translation uses these slots.
    pub const fn from_indexes(l4: Index, l3: Index, l2: Index, l1: Index) -> Vaddr {
        let low = (l4.0 as u64) << Level::L4.shift()
            | (l3.0 as u64) << Level::L3.shift()
            | (l2.0 as u64) << Level::L2.shift()
            | (l1.0 as u64) << Level::L1.shift();
        Vaddr::from_low_bits(low)
    }

    /// The slot of a table of this level that translates the address.
    ///
    /// ```
    /// use pinfold_abi::{address::Vaddr, paging::Level};
    /// let address = Vaddr::new(0xffff_ffff_8012_3456);
    /// assert_eq!(Level::ALL.map(|level| address.index(level).get()), [0x123, 0, 510, 511]);
    /// ```
    pub const fn index(self, level: Level) -> Index {
        Index::new_truncate(self.0 >> level.shift())
    }
}

impl Mfn {
    /// Machine address of an entry of the table in this frame, as in
    /// [`MmuUpdate::ptr`](crate::mmu::MmuUpdate::ptr).
    pub const fn entry_address(self, index: Index) -> u64 {
        self.address() + index.0 as u64 * ENTRY_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_slots_names_the_address_that_it_translates() {
        for address in [0, 0x1000, 0x7fff_ffff_f000, 0xffff_8000_0000_0000, 0xffff_ffff_8012_3000] {
            let [l1, l2, l3, l4] = Level::ALL.map(|level| Vaddr::new(address).index(level));
            assert_eq!(Vaddr::from_indexes(l4, l3, l2, l1), Vaddr::new(address));
        }
    }

    #[test]
    fn entries_are_eight_bytes_apart() {
        assert_eq!(Mfn::new(3).entry_address(Index::new(511)), 0x3ff8);
    }

    #[test]
    fn a_slot_above_511_does_not_exist() {
        assert_eq!(Index::try_new(511).map(Index::get), Some(511));
        assert_eq!(Index::try_new(512), None);
        assert_eq!(Index::new_truncate(512).get(), 0);
    }

    #[test]
    fn levels_are_a_chain() {
        assert_eq!(Level::L1.below(), None);
        assert_eq!(Level::L4.above(), None);
        assert_eq!(Level::L2.above().and_then(Level::below), Some(Level::L2));
    }
}
