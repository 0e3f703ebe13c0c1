//! Page walks in software, to check the hypervisor's own mappings.

use super::direct_map;
use core::sync::atomic::Ordering;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};
use pinfold_abi::paging::TABLE_ENTRIES;
use pinfold_validator::{Index, Mfn, Vaddr};

/// [`EntryFlags::PRESENT`].
pub const PRESENT: u64 = EntryFlags::PRESENT.bits();
/// [`EntryFlags::WRITABLE`].
pub const WRITABLE: u64 = EntryFlags::WRITABLE.bits();
/// [`EntryFlags::USER`].
pub const USER: u64 = EntryFlags::USER.bits();
/// Above L1: the entry maps a large page.
const LARGE: u64 = EntryFlags::PAT_OR_SIZE.bits();
/// [`EntryFlags::GLOBAL`].
pub const GLOBAL: u64 = EntryFlags::GLOBAL.bits();
/// [`EntryFlags::NO_EXECUTE`].
pub const NO_EXECUTE: u64 = EntryFlags::NO_EXECUTE.bits();

/// Levels of a root.
const LEVELS: u32 = 4;

/// The leaf entry that maps an address.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// First address that it maps.
    pub address: u64,
    /// The entry.
    pub entry: u64,
    /// Its level: 1 for a 4 KiB page.
    pub level: u32,
}

impl Leaf {
    /// The first frame that it maps.
    pub fn frame(&self) -> Mfn {
        frame(self.entry)
    }
}

/// The frame that an entry points to.
pub fn frame(entry: u64) -> Mfn {
    Mfn::from_address(entry & ENTRY_ADDRESS)
}

/// Bytes that an entry of a level maps.
const fn bytes(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// The slot of an address in a table of a level.
pub fn slot(address: u64, level: u32) -> Index {
    Index::new_truncate(address / bytes(level))
}

fn is_leaf(entry: u64, level: u32) -> bool {
    level == 1 || entry & LARGE != 0
}

/// Finds the leaf that maps an address, if any.
///
/// # Safety
/// The root is RAM, and so are the tables below it for as long as this runs.
pub unsafe fn find(root: Mfn, address: u64) -> Option<Leaf> {
    let mut table = root;
    for level in (1..=LEVELS).rev() {
        // SAFETY: the caller vouches for the tables.
        let entry = unsafe { direct_map::entry(table, slot(address, level)) };
        let entry = entry.load(Ordering::Relaxed);
        if entry & PRESENT == 0 {
            return None;
        }
        if is_leaf(entry, level) {
            return Some(Leaf { address: address & !(bytes(level) - 1), entry, level });
        }
        table = frame(entry);
    }
    None
}

/// Visits all leaves below one slot of a root.
///
/// # Safety
/// As for [`find`].
pub unsafe fn visit_slot(root: Mfn, slot: usize, visit: &mut impl FnMut(Leaf)) {
    let address = Vaddr::from_low_bits(slot as u64 * bytes(LEVELS));
    // SAFETY: as the caller vouches.
    unsafe { visit_entry(root, Index::new(slot), LEVELS, address.get(), visit) };
}

unsafe fn visit_entry(
    table: Mfn,
    index: Index,
    level: u32,
    address: u64,
    visit: &mut impl FnMut(Leaf),
) {
    // SAFETY: the caller vouches for the tables.
    let entry = unsafe { direct_map::entry(table, index) }.load(Ordering::Relaxed);
    if entry & PRESENT == 0 {
        return;
    }
    if is_leaf(entry, level) {
        visit(Leaf { address, entry, level });
        return;
    }
    for slot in 0..TABLE_ENTRIES {
        let below = address + slot as u64 * bytes(level - 1);
        // SAFETY: as the caller vouches.
        unsafe { visit_entry(frame(entry), Index::new(slot), level - 1, below, visit) };
    }
}
