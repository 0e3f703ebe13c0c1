//! The machine's canaries ([`pinfold_core::canaries`]), if the manifest wants them.

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

/// Set once at boot, before any guest runs.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// From now on there are some.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

fn report(broken: BrokenCanary) {
    let BrokenCanary { frame, offset, expected, seen } = broken;
    let record =
        Canary { frame, offset: Hex(offset as u64), expected: Hex(expected), seen: Hex(seen) };
    write_record(Who::Hypervisor, &record);
}

/// A domain gave a frame back.
pub fn on_release(frame: Mfn) {
    if is_enabled() {
        CANARIES.on_release(frames::allocator(), frame, &mut report);
    }
}

/// Somebody gets frames.
pub fn on_alloc() {
    if is_enabled() {
        CANARIES.check_next(&mut report);
    }
}

/// Looks at all of them: how many there ever were, and how often one was broken. `None` if there are
/// to be none.
pub fn check_all() -> Option<(u64, u64)> {
    is_enabled().then(|| {
        CANARIES.check_all(&mut report);
        (CANARIES.planted(), CANARIES.broken())
    })
}
