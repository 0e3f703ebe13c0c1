//! The console ring: reaching its page.
//!
//! The rules of the ring are [`pinfold_rings`]'; here is only where its page is.

use crate::memory::direct_map;
use pinfold_rings::{ConsolePage, InvalidIndices};
use pinfold_validator::Mfn;

/// The page in a frame that the domain's console holds.
fn page(mfn: Mfn) -> &'static ConsolePage {
    // SAFETY: `GuestConsole::open` holds a writable reference of the frame, so it is RAM, stays the
    // domain's and is no table, until `close` forgets it; the direct map lives for ever. The page is
    // made of atomics, and any bytes are a valid one.
    unsafe { &*direct_map::frame(mfn).cast::<ConsolePage>() }
}

/// Takes what the guest printed, a ring's worth at most, until `each` doesn't take all of a piece.
/// Returns how many bytes, and whether the rest stayed in the ring.
///
/// # Errors
/// The guest's indices made no sense; the ring was emptied.
pub(super) fn drain(
    mfn: Mfn,
    each: &mut impl FnMut(&[u8]) -> usize,
) -> Result<(usize, bool), InvalidIndices> {
    page(mfn).output().drain(each)
}

/// Puts in what was typed, as far as there is room. Returns how many bytes.
///
/// # Errors
/// The guest's indices made no sense; the ring was emptied.
pub(super) fn offer(mfn: Mfn, bytes: &[u8]) -> Result<usize, InvalidIndices> {
    page(mfn).input().write(bytes)
}
