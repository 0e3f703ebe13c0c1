//! How an event reaches a vCPU.

use crate::domain::Domain;
use core::sync::atomic::Ordering;

/// Makes a port pending, and wakes or interrupts the vCPU that its events go to, if the guest
/// doesn't mask it. Pollers are woken even so.
///
/// `SeqCst` throughout: the guest clears `upcall_pending` before it takes the selector and the
/// words, and sleeps only after it looked at them; in one total order nothing is lost between.
pub(super) fn raise_port(domain: &Domain, port: u32, vcpu: u16) {
    let shared = domain.shared_page;
    if !shared.set_pending(port) {
        return;
    }
    if !shared.is_masked(port) {
        mark(domain, port, vcpu);
    }
    domain.kick_pollers();
}

/// Tells a vCPU that a port is pending and not masked.
pub(super) fn mark(domain: &Domain, port: u32, vcpu: u16) {
    let Some(slot) = domain.slots.get(usize::from(vcpu)) else { return };
    let info = slot.info();
    let bit = 1 << (port / 64);
    if info.pending_selector().fetch_or(bit, Ordering::SeqCst) & bit == 0
        && info.upcall_pending().swap(1, Ordering::SeqCst) == 0
    {
        slot.kick();
    }
}
