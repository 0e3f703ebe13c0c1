//! From the builder's address space to one in which every frame has its home.

use super::boot::Boot;
use super::memory::Frames;
use super::native::Native;
use crate::addr::{Level, Mfn, Pfn};
use crate::mmu::{Config, Error, Mmu};
use crate::platform::Platform;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{EntryFlags, MmuUpdate, UVMF_NONE};

/// Frames that one leaf table maps.
const PER_TABLE: u64 = 512;

/// Maps the guest's memory, up to so many frames, and makes the owner of all mappings. The frames
/// that the builder put nothing in are its free ones.
///
/// # Errors
///
/// As [`Mmu::new`].
///
/// # Safety
///
/// To be called once; nobody else may use free frames or change mappings afterwards (a test that
/// does harm to its own page tables knows what it does).
pub unsafe fn start(boot: &Boot, limit: u64, config: &Config) -> Result<Mmu<Native>, Error> {
    let frames = Frames::new(boot);
    // SAFETY: once, says the caller; the owner uses free frames only.
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
    // The first pages to be used are the lowest.
    Mmu::new(native, (used..end).rev().map(Pfn), config)
}

/// Maps frames at their homes with a new leaf table.
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
    let sealed = EntryFlags::PRESENT | EntryFlags::ACCESSED;
    let home = native.direct_map_va(table);
    for index in 0..PER_TABLE {
        native.store(crate::addr::Vaddr(home.0 + index * 8), 0);
    }
    let first = native.direct_map_va(Pfn(pfns.start));
    for pfn in pfns {
        let va = native.direct_map_va(Pfn(pfn));
        let entry = native.mfn(Pfn(pfn)).address() | DIRECT_MAP_RW.bits();
        native.store(crate::addr::Vaddr(home.0 + va.index(Level::L1).get() as u64 * 8), entry);
    }
    let mfn = native.mfn(table);
    native.update_va_mappings(&[(home, mfn.address() | sealed.bits())], UVMF_NONE)?;
    let root = native.mfn(native.root());
    let (directory, _): (Mfn, u64) = frames.walk(root, first, 2).ok_or(Errno::EINVAL)?;
    let ptr = directory.entry_address(first.index(Level::L2));
    let val = mfn.address() | (DIRECT_MAP_RW | EntryFlags::USER).bits();
    Ok(native.mmu_update(&[MmuUpdate { ptr, val }])?)
}
