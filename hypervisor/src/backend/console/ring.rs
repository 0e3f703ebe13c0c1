//! Access to the page of a console ring ([`pinfold_rings`]).
#![expect(unsafe_code, reason = "a page that is shared with the guest, as atomics")]

use crate::memory::direct_map;
use crate::memory::frame_refs::WritableRef;
use pinfold_rings::{ConsolePage, InvalidIndices};

fn page(ring: &WritableRef) -> &ConsolePage {
    // SAFETY: the reference keeps the frame RAM, the domain's and no table. The page is made of
    // atomics, and any bytes are a valid one.
    unsafe { &*direct_map::frame(ring.frame()).cast::<ConsolePage>() }
}

/// Reads the guest's output, at most the size of the ring, until `each` doesn't take all of a piece.
/// Returns how many bytes were read, and whether some are left in the ring.
///
/// # Errors
/// If the guest's indices are invalid; the ring is emptied.
pub(super) fn drain(
    ring: &WritableRef,
    each: &mut impl FnMut(&[u8]) -> usize,
) -> Result<(usize, bool), InvalidIndices> {
    page(ring).output().drain(each)
}

/// Writes typed bytes, as far as there is room. Returns how many.
///
/// # Errors
/// If the guest's indices are invalid; the ring is emptied.
pub(super) fn offer(ring: &WritableRef, bytes: &[u8]) -> Result<usize, InvalidIndices> {
    page(ring).input().write(bytes)
}
