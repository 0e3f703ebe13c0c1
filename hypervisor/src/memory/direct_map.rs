//! All RAM, mapped once, writable and not executable: how the hypervisor reaches any frame.

use crate::arch::layout::DIRECT_MAP_START;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::{GROUP, Index, Mfn};

/// Address of a physical address.
pub fn address(physical: u64) -> u64 {
    DIRECT_MAP_START + physical
}

/// First byte of a frame.
pub fn frame(mfn: Mfn) -> *mut u8 {
    address(mfn.get() << 12) as *mut u8
}

/// An entry of a table as the processors see it: they may set accessed and dirty at any time.
#[inline]
pub fn entry(table: Mfn, index: Index) -> &'static AtomicU64 {
    // No overflow for a frame of RAM; and this is the innermost step of every validation.
    let address = DIRECT_MAP_START.wrapping_add(table.get() << 12);
    let entries = address as *const AtomicU64;
    // SAFETY: callers name frames of RAM (the frame table knew them), the direct map lives for
    // ever, an index is below 512, and all sides use atomic accesses.
    unsafe { &*entries.add(index.get()) }
}

/// The group of entries that begins at one, whose number is a multiple of the group's length.
#[inline]
pub fn group(table: Mfn, first: Index) -> &'static [AtomicU64; GROUP] {
    debug_assert!(first.get().is_multiple_of(GROUP));
    let address = DIRECT_MAP_START.wrapping_add(table.get() << 12);
    let entries = address as *const AtomicU64;
    // SAFETY: as for `entry`; a group that begins at a multiple of its length lies in the frame.
    unsafe { &*entries.add(first.get() & !(GROUP - 1)).cast() }
}

/// Fills a frame with zeros.
pub fn clear(mfn: Mfn) {
    let words = frame(mfn).cast::<AtomicU64>();
    for index in 0..512 {
        // SAFETY: as for `entry`; the frame has 512 words.
        unsafe { (*words.add(index)).store(0, Ordering::Relaxed) };
    }
}

/// Copies a frame.
pub fn copy(to: Mfn, from: Mfn) {
    let (to, from) = (frame(to).cast::<AtomicU64>(), frame(from).cast::<AtomicU64>());
    for index in 0..512 {
        // SAFETY: as for `entry`.
        unsafe {
            (*to.add(index)).store((*from.add(index)).load(Ordering::Relaxed), Ordering::Relaxed)
        };
    }
}

/// Copies bytes from one place to another; the places may overlap.
///
/// # Panics
/// If they leave their frames.
pub fn copy_bytes(to: Mfn, to_offset: usize, from: Mfn, from_offset: usize, bytes: usize) {
    assert!(bytes <= 4096 && to_offset <= 4096 - bytes && from_offset <= 4096 - bytes);
    // SAFETY: within the frames, as asserted; guests that see them may race, which bytes bear.
    unsafe {
        core::ptr::copy(frame(from).add(from_offset), frame(to).add(to_offset), bytes);
    }
}

/// Copies bytes into a frame from `offset` on.
///
/// # Panics
/// If they leave the frame.
pub fn write_bytes(mfn: Mfn, offset: usize, bytes: &[u8]) {
    assert!(offset + bytes.len() <= 4096);
    // SAFETY: within the frame, as asserted; guests that see the frame may race, which bytes bear.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), frame(mfn).add(offset), bytes.len()) };
}
