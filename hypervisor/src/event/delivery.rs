//! Delivery of events to vCPUs.

use crate::domain::Domain;
use core::sync::atomic::Ordering;

/// Makes a port pending. Kicks the vCPU that the port is bound to, if the port isn't masked, and
/// pollers in any case.
///
/// `SeqCst` throughout: the guest clears `upcall_pending` before it reads the selector and the words,
/// and blocks only after it read them; in a single total order no event is lost.
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

/// Marks a port as pending in the `vcpu_info` of a vCPU, and kicks the vCPU.
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
