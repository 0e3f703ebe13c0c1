//! The machine-to-physical table (M2P): the pfn of each machine frame.
//!
//! Guest kernels read it at `0xffff800000000000` (ABI); the hypervisor writes it through the direct
//! map.

use super::{direct_map, page_walk, paging, validator};
use crate::memory::early::EarlyFrames;
use crate::memory::paging::IdleRoot;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::{HYPERVISOR_SLOTS, INVALID_M2P_ENTRY, M2P_START};
use pinfold_validator::{DomId, Mfn, Pfn, Refusal};
use spin::Once;

const LARGE_PAGE: u64 = 2 << 20;

static TABLE: Once<&'static [AtomicU64]> = Once::new();

/// Allocates the table for `count` frames, marks all entries invalid, and maps it for guests.
pub fn create(early: &mut EarlyFrames, count: u64, root: IdleRoot) {
    let bytes = (count * 8).next_multiple_of(LARGE_PAGE);
    let physical = early.alloc(bytes, LARGE_PAGE);
    paging::map_for_guests(early, root, M2P_START, physical, bytes);
    let words = direct_map::address(physical) as *const AtomicU64;
    // SAFETY: the range was just allocated, zeroed, for so many words, and is never freed.
    let table = unsafe { core::slice::from_raw_parts(words, (bytes / 8) as usize) };
    for word in table {
        word.store(INVALID_M2P_ENTRY, Ordering::Relaxed);
    }
    TABLE.call_once(|| table);
    // SAFETY: the root and its tables are the hypervisor's own, built just now.
    unsafe {
        page_walk::visit_slot(
            Mfn::from_address(root.address()),
            HYPERVISOR_SLOTS.start,
            &mut |leaf| {
                let global = leaf.entry & page_walk::GLOBAL != 0;
                assert!(!global, "a global mapping that guest user mode could use: {leaf:x?}");
            },
        );
    }
}

/// The entry of a frame.
fn word(mfn: Mfn) -> Option<&'static AtomicU64> {
    TABLE.get()?.get(usize::try_from(mfn.get()).ok()?)
}

/// Physical address of the table's 2 MiB page number `index`, if it has so many.
pub fn extent(index: u64) -> Option<u64> {
    let table = TABLE.get()?;
    let offset = index.checked_mul(LARGE_PAGE)?;
    if offset >= table.len() as u64 * 8 {
        return None;
    }
    Some(table.as_ptr() as u64 - crate::arch::layout::DIRECT_MAP_START + offset)
}

/// Sets the pfn of a frame of which no guest can change the pfn, because it is being allocated or
/// freed. Relaxed: entries are independent of each other, and guests check what they read.
pub fn set(mfn: Mfn, pfn: Option<Pfn>) {
    if let Some(word) = word(mfn) {
        word.store(pfn.map_or(INVALID_M2P_ENTRY, Pfn::get), Ordering::Relaxed);
    }
}

/// Sets the entry of a frame to a value that its owner chose. The domain owns the frame until the entry
/// is written; otherwise the next owner could find that value.
///
/// # Errors
/// If the domain doesn't own the frame.
pub fn set_owned(domain: DomId, mfn: Mfn, value: u64) -> Result<(), Refusal> {
    validator().with_owned_frame(domain, mfn, || {
        if let Some(word) = word(mfn) {
            word.store(value, Ordering::Relaxed);
        }
    })
}

/// The pfn of a frame, for reports.
pub fn get(mfn: Mfn) -> Option<Pfn> {
    let value = word(mfn)?.load(Ordering::Relaxed);
    (value != INVALID_M2P_ENTRY).then(|| Pfn::new(value))
}
