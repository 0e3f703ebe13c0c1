//! The `shared_info` page of a domain. The guest may change any of it at any time: accesses are
//! atomic, and its contents are never trusted.
#![expect(unsafe_code, reason = "a page that is shared with the guest, as atomics")]

use crate::memory::{direct_map, frames};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::event::PORTS;
use pinfold_abi::shared_info::SharedInfo;
use pinfold_validator::{DomId, Index, Mfn};

/// A `shared_info` page.
#[derive(Clone, Copy, Debug)]
pub struct SharedPage(Mfn);

impl SharedPage {
    /// Allocates the page of a domain that is being built. `None` if there is no memory left.
    pub fn alloc(domain: DomId) -> Option<SharedPage> {
        frames::allocator().alloc_shared_frame(domain).map(SharedPage)
    }

    /// Its frame.
    pub fn frame(self) -> Mfn {
        self.0
    }

    /// Writes bytes from `offset` on, before the domain runs.
    ///
    /// # Panics
    /// If they leave the page.
    pub fn write_bytes(self, offset: usize, bytes: &[u8]) {
        // SAFETY: as for `word`.
        unsafe { direct_map::write_bytes(self.0, offset, bytes) };
    }

    fn word(self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: the frame was allocated as a shared page, and is freed when the domain has no vCPU
        // and no port left that could be raised.
        unsafe { direct_map::entry(self.0, Index::new(offset / 8)) }
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
