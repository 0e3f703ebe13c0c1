//! Canaries ([`pinfold_core::canaries`]) in frames that guests have released, if the manifest enables
//! them.

use super::frames;
use super::platform::MachinePlatform;
use crate::console::log::write_record;
use crate::sync::ServiceIpis;
use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::{Canary, Hex, Who};
use pinfold_core::canaries::{BrokenCanary, Canaries};
use pinfold_validator::Mfn;

static CANARIES: Canaries<MachinePlatform, ServiceIpis> =
    // SAFETY: canaries are frames of the hypervisor's own.
    Canaries::new(unsafe { MachinePlatform::new() });

/// Written once at boot, before any guest runs.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Enables canaries.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether canaries are enabled.
fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

fn report(broken: BrokenCanary) {
    let BrokenCanary { frame, offset, expected, seen } = broken;
    let record =
        Canary { frame, offset: Hex(offset as u64), expected: Hex(expected), seen: Hex(seen) };
    write_record(Who::Hypervisor, &record);
}

/// To be called after a domain has released a frame: makes a canary of it.
pub fn on_release(frame: Mfn) {
    if is_enabled() {
        CANARIES.on_release(frames::allocator(), frame, &mut report);
    }
}

/// To be called before frames are allocated: checks one canary.
pub fn on_alloc() {
    if is_enabled() {
        CANARIES.check_next(&mut report);
    }
}

/// Checks all canaries. Returns how many were ever planted and how many were found overwritten, or
/// `None` if canaries are disabled.
pub fn check_all() -> Option<(u64, u64)> {
    is_enabled().then(|| {
        CANARIES.check_all(&mut report);
        (CANARIES.planted(), CANARIES.broken())
    })
}
