//! `vm_assist`: switches of the ABI, each on or off for a domain (`public/xen.h`).

use core::sync::atomic::{AtomicU64, Ordering};

/// The switches of a domain.
#[derive(Debug, Default)]
pub struct Assists(AtomicU64);

impl Assists {
    /// Whether a type is enabled.
    pub fn is_enabled(&self, kind: u64) -> bool {
        kind < 64 && self.0.load(Ordering::Relaxed) & 1 << kind != 0
    }

    /// Enables or disables a type below 64; others have no effect.
    pub fn set(&self, kind: u64, enabled: bool) {
        let bit = u32::try_from(kind).ok().and_then(|kind| 1u64.checked_shl(kind)).unwrap_or(0);
        if enabled {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}
