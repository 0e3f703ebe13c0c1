//! The machine's canaries ([`pinfold_core::canaries`]), if the manifest wants them.

use super::frames;
use super::platform::MachinePlatform;
use crate::console::log::record;
use crate::sync::ServiceIpis;
use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::Who;
use pinfold_core::canaries::{BrokenCanary, Canaries};
use pinfold_validator::Mfn;

static CANARIES: Canaries<MachinePlatform, ServiceIpis> = Canaries::new(MachinePlatform);

/// Set once at boot, before any guest runs.
static WANTED: AtomicBool = AtomicBool::new(false);

/// From now on there are some.
pub fn start() {
    WANTED.store(true, Ordering::Relaxed);
}

fn wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

fn tell(broken: BrokenCanary) {
    record!(Who::Hypervisor, AUDIT, "{broken}");
}

/// A domain gave a frame back.
pub fn on_release(frame: Mfn) {
    if wanted() {
        CANARIES.on_release(frames::allocator(), frame, &mut tell);
    }
}

/// Somebody gets frames.
pub fn on_alloc() {
    if wanted() {
        CANARIES.check_next(&mut tell);
    }
}

/// Looks at all of them: how many there ever were, and how often one was broken. `None` if there are
/// to be none.
pub fn check_all() -> Option<(u64, u64)> {
    wanted().then(|| {
        CANARIES.check_all(&mut tell);
        (CANARIES.planted(), CANARIES.broken())
    })
}
