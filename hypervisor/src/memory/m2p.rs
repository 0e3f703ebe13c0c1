//! The machine-to-physical table: for each machine frame the pfn that its owner knows it by.
//!
//! Guests read it at `0xffff800000000000` (ABI); the hypervisor writes it through the direct map.

use super::{direct_map, page_walk, paging, validator};
use crate::memory::early::EarlyFrames;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::{HYPERVISOR_SLOTS, INVALID_M2P_ENTRY, M2P_START};
use pinfold_validator::{DomId, Mfn, Pfn, Refusal};
use spin::Once;

const LARGE_PAGE: u64 = 2 << 20;

static TABLE: Once<&'static [AtomicU64]> = Once::new();

/// Takes memory for `count` frames, marks all invalid, and maps it for guests.
pub fn place(early: &mut EarlyFrames, count: u64, root: u64) {
    let bytes = (count * 8).next_multiple_of(LARGE_PAGE);
    let physical = early.alloc(bytes, LARGE_PAGE);
    paging::map_for_guests(early, root, M2P_START, physical, bytes);
    let words = direct_map::address(physical) as *const AtomicU64;
    // SAFETY: the range was just taken, zeroed, for so many words; it is never given back.
    let table = unsafe { core::slice::from_raw_parts(words, (bytes / 8) as usize) };
    for word in table {
        word.store(INVALID_M2P_ENTRY, Ordering::Relaxed);
    }
    TABLE.call_once(|| table);
    // SAFETY: the root and its tables are the hypervisor's own, built just now.
    unsafe {
        page_walk::visit_slot(Mfn::new(root >> 12), HYPERVISOR_SLOTS.start, &mut |leaf| {
            let global = leaf.entry & page_walk::GLOBAL != 0;
            assert!(!global, "a translation that guest user mode could keep: {leaf:x?}");
        });
    }
}

fn word(mfn: Mfn) -> Option<&'static AtomicU64> {
    TABLE.get()?.get(usize::try_from(mfn.get()).ok()?)
}

/// Physical address of the table's first byte in its `index`th 2 MiB, if there is one.
pub fn extent(index: u64) -> Option<u64> {
    let table = TABLE.get()?;
    let offset = index.checked_mul(LARGE_PAGE)?;
    if offset >= table.len() as u64 * 8 {
        return None;
    }
    Some(table.as_ptr() as u64 - crate::arch::layout::DIRECT_MAP_START + offset)
}

/// Sets the pfn of a frame that nobody else can change: it is being built with, or given back.
/// Relaxed: each word stands alone, and guests check what they read.
pub fn set(mfn: Mfn, pfn: Option<Pfn>) {
    if let Some(word) = word(mfn) {
        word.store(pfn.map_or(INVALID_M2P_ENTRY, Pfn::get), Ordering::Relaxed);
    }
}

/// Sets the word of a frame to whatever its owner wants there. The frame stays the domain's until
/// the word is written, or the next owner would find a word that isn't its own.
///
/// # Errors
/// If the frame isn't the domain's; then the word stays.
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
