//! Reading page tables as a CPU does: for checks of the hypervisor's own mappings.

use super::direct_map;
use core::sync::atomic::Ordering;
use pinfold_validator::{Index, Mfn};

/// Bits of an entry (Intel SDM vol. 3, table 4-20).
pub const PRESENT: u64 = 1 << 0;
/// Writable.
pub const WRITABLE: u64 = 1 << 1;
/// Ring 3 may use it.
pub const USER: u64 = 1 << 2;
/// Maps a large page, above the lowest level.
const LARGE: u64 = 1 << 7;
/// Outlives the change to another root.
pub const GLOBAL: u64 = 1 << 8;
/// Not executable.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Bits of the address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Levels of a root.
const LEVELS: u32 = 4;

/// The lowest entry that maps an address, and its level: 1 for a small page.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// The first address that it maps.
    pub address: u64,
    /// The entry.
    pub entry: u64,
    /// Its level.
    pub level: u32,
}

impl Leaf {
    /// The frame that it maps, or the first of several.
    pub fn frame(&self) -> Mfn {
        frame(self.entry)
    }
}

/// The frame that an entry names.
pub fn frame(entry: u64) -> Mfn {
    Mfn::new((entry & ADDRESS) >> 12)
}

/// Bytes that an entry of a level maps.
const fn bytes(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// The slot of an address in a table of a level.
pub fn slot(address: u64, level: u32) -> Index {
    Index::new_truncate(address / bytes(level))
}

fn is_leaf(entry: u64, level: u32) -> bool {
    level == 1 || entry & LARGE != 0
}

/// What maps an address in the tables below a root.
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

/// Visits everything that one slot of a root maps.
///
/// # Safety
/// As for [`find`].
pub unsafe fn visit_slot(root: Mfn, slot: usize, visit: &mut impl FnMut(Leaf)) {
    // Canonical: the bits above follow the highest one.
    let address = ((slot as u64 * bytes(LEVELS)) << 16).cast_signed() >> 16;
    // SAFETY: as the caller vouches.
    unsafe { visit_entry(root, Index::new(slot), LEVELS, address.cast_unsigned(), visit) };
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
    for slot in 0..512 {
        let below = address + slot as u64 * bytes(level - 1);
        // SAFETY: as the caller vouches.
        unsafe { visit_entry(frame(entry), Index::new(slot), level - 1, below, visit) };
    }
}
