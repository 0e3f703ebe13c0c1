//! Access to words of data pages. Any vCPU may read and write them while another one changes
//! mappings.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pinfold_guest::addr::{PAGE_SIZE, Vaddr};
use pinfold_guest::entry::catch;

/// First address of the vmap range.
pub(crate) const VMAP: Vaddr = Vaddr(0xffff_9000_0000_0000);
/// Its size in pages.
pub(crate) const VMAP_PAGES: u64 = 16 * 512;
/// First address of the kmap slots.
pub(crate) const KMAP: Vaddr = Vaddr(0xffff_9800_0000_0000);
/// Size of the range of kmap slots in pages.
const KMAP_PAGES: u64 = 512;

/// A word has another value than the one that was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) va: Vaddr,
    pub(crate) wanted: u64,
    pub(crate) found: u64,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { va, wanted, found } = self;
        write!(f, "{va} holds {found:#x} instead of {wanted:#x}")
    }
}

/// Returns the word at an address of the lower half, or of the ranges in which the shim maps data.
fn word(va: Vaddr) -> &'static AtomicU64 {
    let within = |start: Vaddr, pages: u64| va.0.wrapping_sub(start.0) / PAGE_SIZE < pages;
    let data = va.0 >> 47 == 0 || within(VMAP, VMAP_PAGES) || within(KMAP, KMAP_PAGES);
    assert!(data && va.0.is_multiple_of(8) && va.0 != 0, "{va} is not for data");
    // SAFETY: Rust uses no memory in these ranges. What is mapped there are frames of the shim's
    // pool, which all vCPUs use as plain words; where nothing is mapped the access traps.
    unsafe { &*(va.0 as *const AtomicU64) }
}

/// Reads a word.
///
/// # Panics
///
/// If the address is not in a data range.
pub(crate) fn load(va: Vaddr) -> u64 {
    word(va).load(Relaxed)
}

/// Writes a word.
///
/// # Panics
///
/// If the address is not in a data range.
pub(crate) fn store(va: Vaddr, value: u64) {
    word(va).store(value, Relaxed);
}

/// Checks the value of a word.
pub(crate) fn check(va: Vaddr, wanted: u64) -> Result<(), Content> {
    match load(va) {
        found if found == wanted => Ok(()),
        found => Err(Content { va, wanted, found }),
    }
}

/// Writes a word that may not be mapped; true if it was.
///
/// # Panics
///
/// If the address is not in a data range.
pub(crate) fn try_store(va: Vaddr, value: u64) -> bool {
    let word = word(va).as_ptr() as u64;
    // SAFETY: as for any word of these ranges.
    unsafe { catch::write(word, value) }.is_ok()
}
