//! References on a guest's frame, held for a while, so that it stays the guest's and what it is.
//!
//! Another processor may be changing the very frame, or a big table may be half taken apart: that
//! passes, since each try carries the work on. It is waited for, but not for long: a vCPU that can
//! be suspended tries again later ([`crate::domain::work::Work::may_retry`]), for anything else the
//! frame counts as in use.

use super::validator;
use crate::arch::{apic, ipi, latency};
use pinfold_validator::{Cause, DomId, Mfn, Refusal};

/// Tries in a row. The frame's owner can make each visit as many entries as the validator's small
/// operations may, so between two there is a look at what others want.
const TRIES: usize = 64;

/// Repeats a step that another processor's work is in the way of, a bounded number of times and
/// until this processor's time is up.
///
/// # Errors
/// The step's; [`Cause::Busy`] if it still was.
pub fn retry_while_busy(mut step: impl FnMut() -> Result<(), Refusal>) -> Result<(), Refusal> {
    for _ in 1..TRIES {
        match step() {
            Err(refusal) if refusal.cause == Cause::Busy => {
                latency::measure_from_stamp();
                // The other one may be waiting for this processor to flush.
                ipi::service_ipis();
                if apic::timer_is_pending() {
                    return Err(refusal);
                }
                core::hint::spin_loop();
            }
            done => return done,
        }
    }
    step()
}

/// Takes a writable reference: see [`pinfold_validator::Validator::get_writable_ref`].
///
/// # Errors
/// As there.
pub fn get_writable_ref(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
    retry_while_busy(|| validator().get_writable_ref(domain, mfn))
}

/// Takes a general reference, for reading: see [`pinfold_validator::Validator::get_readable_ref`].
///
/// # Errors
/// As there.
pub fn get_readable_ref(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
    retry_while_busy(|| validator().get_readable_ref(domain, mfn))
}

/// Takes a reference of a descriptor page: see
/// [`pinfold_validator::Validator::get_descriptor_ref`].
///
/// # Errors
/// As there.
pub fn get_descriptor_ref(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
    retry_while_busy(|| validator().get_descriptor_ref(domain, mfn))
}
