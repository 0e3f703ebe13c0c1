//! The page that a domain and the hypervisor share. Both ends may touch any of it at any time:
//! there are only atomic accesses, and what the guest wrote is never trusted.

use crate::memory::direct_map;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::event::PORTS;
use pinfold_abi::shared_info::SharedInfo;
use pinfold_validator::{Index, Mfn};

/// The page.
#[derive(Clone, Copy, Debug)]
pub struct SharedPage(pub Mfn);

impl SharedPage {
    fn word(self, offset: usize) -> &'static AtomicU64 {
        direct_map::entry(self.0, Index::new(offset / 8))
    }

    fn pending_word(self, port: u32) -> &'static AtomicU64 {
        debug_assert!(port < PORTS);
        self.word(offset_of!(SharedInfo, evtchn_pending) + port as usize / 64 * 8)
    }

    fn mask_word(self, port: u32) -> &'static AtomicU64 {
        debug_assert!(port < PORTS);
        self.word(offset_of!(SharedInfo, evtchn_mask) + port as usize / 64 * 8)
    }

    /// Whether a port is pending.
    pub fn is_pending(self, port: u32) -> bool {
        self.pending_word(port).load(Ordering::SeqCst) & 1 << (port % 64) != 0
    }

    /// Makes a port pending; false if it was already.
    pub fn set_pending(self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        self.pending_word(port).fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Makes a port not pending.
    pub fn clear_pending(self, port: u32) {
        self.pending_word(port).fetch_and(!(1 << (port % 64)), Ordering::SeqCst);
    }

    /// Whether the guest masks a port.
    pub fn is_masked(self, port: u32) -> bool {
        self.mask_word(port).load(Ordering::SeqCst) & 1 << (port % 64) != 0
    }

    /// Clears a port's mask bit; false if it was clear.
    pub fn unmask(self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        self.mask_word(port).fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}
