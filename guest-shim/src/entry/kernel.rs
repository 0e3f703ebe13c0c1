//! From the domain builder's address space to one with a direct map of all frames.

use super::boot::Boot;
use super::memory::Frames;
use super::native::Native;
use crate::addr::{Level, Mfn, Pfn, TABLE_ENTRIES, word_of, words_of};
use crate::mmu::{Config, Error, Mmu};
use crate::platform::Platform;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate, UVMF_NONE};

/// Frames that one leaf table maps.
const PER_TABLE: u64 = TABLE_ENTRIES as u64;

/// Extends the direct map to up to so many frames of the guest, and makes the [`Mmu`]. Its free
/// frames are those that the builder did not use.
///
/// # Errors
///
/// As [`Mmu::new`].
///
/// # Safety
///
/// It must be called once. Nothing else may use free frames or change mappings afterwards, except
/// for tests that damage their own page tables.
pub unsafe fn start(boot: &Boot, limit: u64, config: &Config) -> Result<Mmu<Native>, Error> {
    let frames = Frames::new(boot);
    // SAFETY: called once, says the caller; the `Mmu` uses free frames only.
    let mut native = unsafe { Native::new(boot) };
    let (first, mapped) = (frames.first_free().0, frames.mapped_end().0);
    let end = limit.min(frames.count()).max(mapped);
    let mut used = first;
    let mut next = mapped;
    while next < end {
        // The builder's region ends at a leaf table's end; the last table may map less.
        let table = Pfn(used);
        used += 1;
        let stop = (next + PER_TABLE).min(end);
        extend(&mut native, &frames, table, next..stop)?;
        next = stop;
    }
    // The lowest frames are allocated first.
    Mmu::new(native, (used..end).rev().map(Pfn), config)
}

/// Adds frames to the direct map with a new leaf table.
fn extend(
    native: &mut Native,
    frames: &Frames,
    table: Pfn,
    pfns: core::ops::Range<u64>,
) -> Result<(), Error> {
    const DIRECT_MAP_RW: EntryFlags = EntryFlags::PRESENT
        .union(EntryFlags::WRITABLE)
        .union(EntryFlags::ACCESSED)
        .union(EntryFlags::DIRTY);
    let read_only = EntryFlags::PRESENT | EntryFlags::ACCESSED;
    let table_va = native.direct_map_va(table);
    for va in words_of(table_va) {
        native.store(va, 0);
    }
    let first = native.direct_map_va(Pfn(pfns.start));
    for pfn in pfns {
        let va = native.direct_map_va(Pfn(pfn));
        let entry = native.mfn(Pfn(pfn)).address() | DIRECT_MAP_RW.bits();
        native.store(word_of(table_va, va.index(Level::L1).get()), entry);
    }
    let mfn = native.mfn(table);
    native.update_va_mappings(&[(table_va, mfn.address() | read_only.bits())], UVMF_NONE)?;
    let root = native.mfn(native.root());
    let (directory, _): (Mfn, u64) = frames.walk(root, first, 2).ok_or(Errno::EINVAL)?;
    let ptr = directory.entry_address(first.index(Level::L2));
    let val = mfn.address() | DIRECT_MAP_RW.bits();
    Ok(native.mmu_update(&[MmuUpdate { ptr, val }])?)
}
