//! Holding a guest's frame for a while, so that it stays the guest's and what it is.
//!
//! Another processor may be changing the very frame, or a big table may be half taken apart: that
//! passes, since each try carries the work on, so it is waited for instead of refused.

use super::validator;
use crate::arch::ipi;
use pinfold_validator::{Cause, DomId, Mfn, Refusal};

/// Tries before a frame counts as in use: far more than taking apart the biggest table needs.
const TRIES: usize = 1 << 20;

/// Repeats a step that another processor's work is in the way of.
pub fn patiently(mut step: impl FnMut() -> Result<(), Refusal>) -> Result<(), Refusal> {
    for _ in 0..TRIES {
        match step() {
            Err(refusal) if refusal.cause == Cause::Busy => {
                // The other one may be waiting for this processor to flush.
                ipi::attend();
                core::hint::spin_loop();
            }
            done => return done,
        }
    }
    step()
}

/// Holds a frame as writable: see [`pinfold_validator::Validator::take_writable`].
pub fn hold_writable(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
    patiently(|| validator().take_writable(domain, mfn))
}

/// Holds a frame as a descriptor page: see [`pinfold_validator::Validator::take_descriptors`].
pub fn hold_descriptors(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
    patiently(|| validator().take_descriptors(domain, mfn))
}
