//! The console ring: reaching its page.
//!
//! The rules of the ring are [`pinfold_rings`]'; here is only where its page is.

use crate::memory::direct_map;
use crate::memory::frame_refs::WritableRef;
use pinfold_rings::{ConsolePage, InvalidIndices};

fn page(ring: &WritableRef) -> &ConsolePage {
    // SAFETY: the reference keeps the frame RAM, the domain's and no table. The page is made of
    // atomics, and any bytes are a valid one.
    unsafe { &*direct_map::frame(ring.frame()).cast::<ConsolePage>() }
}

/// Takes what the guest printed, a ring's worth at most, until `each` doesn't take all of a piece.
/// Returns how many bytes, and whether the rest stayed in the ring.
///
/// # Errors
/// The guest's indices made no sense; the ring was emptied.
pub(super) fn drain(
    ring: &WritableRef,
    each: &mut impl FnMut(&[u8]) -> usize,
) -> Result<(usize, bool), InvalidIndices> {
    page(ring).output().drain(each)
}

/// Puts in what was typed, as far as there is room. Returns how many bytes.
///
/// # Errors
/// The guest's indices made no sense; the ring was emptied.
pub(super) fn offer(ring: &WritableRef, bytes: &[u8]) -> Result<usize, InvalidIndices> {
    page(ring).input().write(bytes)
}
