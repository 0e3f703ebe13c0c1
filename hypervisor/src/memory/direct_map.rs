//! The direct map: all RAM, mapped once, writable and not executable.
//!
//! The functions here take any frame number, so using them is `unsafe`. Safe access goes through
//! what proves that a frame is RAM and may be accessed: a reference on a guest's frame
//! ([`super::frame_refs`]), or a type that owns frames of the hypervisor's.

use crate::arch::layout::DIRECT_MAP_START;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::address::PAGE_SIZE;
use pinfold_validator::{GROUP, Index, Mfn};

/// Entries of a page table, and 64-bit words of a frame.
const WORDS: usize = PAGE_SIZE as usize / size_of::<u64>();

/// Where the direct map has a physical address.
pub fn address(physical: u64) -> u64 {
    DIRECT_MAP_START.wrapping_add(physical)
}

/// Pointer to the first byte of a frame. To use it, the frame must be RAM.
#[inline]
pub fn frame(mfn: Mfn) -> *mut u8 {
    address(mfn.address()) as *mut u8
}

/// An entry of a page table, or a 64-bit word of any frame. CPUs may set accessed and dirty bits at
/// any time.
///
/// # Safety
/// The frame is RAM, and all others access the word atomically.
#[inline]
pub unsafe fn entry(table: Mfn, index: Index) -> &'static AtomicU64 {
    // SAFETY: the frame is RAM, so it is mapped, for as long as the machine runs; an index is below
    // 512.
    unsafe { &*frame(table).cast::<AtomicU64>().add(index.get()) }
}

/// The group of entries that begins with one, whose number is a multiple of the group's length.
///
/// # Safety
/// As for [`entry`].
#[inline]
pub unsafe fn group(table: Mfn, first: Index) -> &'static [AtomicU64; GROUP] {
    debug_assert!(first.get().is_multiple_of(GROUP));
    // SAFETY: as for `entry`; a group that begins at a multiple of its length lies in the frame.
    unsafe { &*frame(table).cast::<AtomicU64>().add(first.get() & !(GROUP - 1)).cast() }
}

/// Fills a frame with zeros.
///
/// # Safety
/// The frame is RAM, nobody relies on its contents, and all others access it atomically.
pub unsafe fn clear(mfn: Mfn) {
    let words = frame(mfn).cast::<AtomicU64>();
    for index in 0..WORDS {
        // SAFETY: the caller's promise; the frame has so many words.
        unsafe { (*words.add(index)).store(0, Ordering::Relaxed) };
    }
}

/// Copies a frame.
///
/// # Safety
/// Both frames are RAM, nobody relies on the contents of `to`, and all others access both
/// atomically.
pub unsafe fn copy(to: Mfn, from: Mfn) {
    let (to, from) = (frame(to).cast::<AtomicU64>(), frame(from).cast::<AtomicU64>());
    for index in 0..WORDS {
        // SAFETY: the caller's promise; the frames have so many words.
        unsafe {
            (*to.add(index)).store((*from.add(index)).load(Ordering::Relaxed), Ordering::Relaxed);
        };
    }
}

/// Copies bytes between frames, or within one; the ranges may overlap.
///
/// # Panics
/// If a range leaves its frame.
///
/// # Safety
/// Both frames are RAM, and nobody but guests relies on the contents of `to`.
pub unsafe fn copy_bytes(to: Mfn, to_offset: usize, from: Mfn, from_offset: usize, bytes: usize) {
    let fits = |offset| offset <= PAGE_SIZE as usize - bytes;
    assert!(bytes <= PAGE_SIZE as usize && fits(to_offset) && fits(from_offset));
    // SAFETY: within the frames, as asserted; a guest that sees them may race, and any bytes do.
    unsafe {
        core::ptr::copy(frame(from).add(from_offset), frame(to).add(to_offset), bytes);
    }
}

/// Copies bytes into a frame from `offset` on.
///
/// # Panics
/// If they leave the frame.
///
/// # Safety
/// The frame is RAM, and nobody but guests relies on its contents.
pub unsafe fn write_bytes(mfn: Mfn, offset: usize, bytes: &[u8]) {
    assert!(bytes.len() <= PAGE_SIZE as usize && offset <= PAGE_SIZE as usize - bytes.len());
    // SAFETY: within the frame, as asserted; a guest that sees it may race, and any bytes do.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), frame(mfn).add(offset), bytes.len()) };
}
