//! What is stored through stale translations: words that would be valid where the hypervisor keeps
//! its tables. Each page is filled with a pair of them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Low half of an entry of a grant table: permit access, to this domain.
const PERMIT: u64 = 1;
/// The same for an entry by which a domain accepts a frame.
const ACCEPT_TRANSFER: u64 = 2;
const DOMAIN_OF_ENTRY: u32 = 16;
const FRAME_OF_ENTRY: u32 = 32;
/// Bit of a status word, and of a handle, at which a domain begins.
const DOMAIN_OF_NOTE: u32 = 48;
/// Mapped once for reading and once for writing.
const BOTH_USES: u64 = 1 << 32 | 1;
/// A handle in use.
const MAPPED: u64 = 2 << 40;

/// The words at even and at odd indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgery {
    pub(crate) even: u64,
    pub(crate) odd: u64,
}

impl Forgery {
    /// Grant-table entries that grant a frame to a domain.
    pub(crate) const fn entries(borrower: u16, frame: u64) -> Forgery {
        let entry = PERMIT | (borrower as u64) << DOMAIN_OF_ENTRY | frame << FRAME_OF_ENTRY;
        Forgery { even: entry, odd: entry }
    }

    /// Returns a genuine entry by which a domain accepts a frame from another.
    pub(crate) const fn accept(from: u16) -> u64 {
        ACCEPT_TRANSFER | (from as u64) << DOMAIN_OF_ENTRY
    }

    /// Status words that say that a domain uses an entry, as this frame.
    pub(crate) const fn uses(borrower: u16, frame: u64) -> Forgery {
        Forgery { even: (borrower as u64) << DOMAIN_OF_NOTE | frame, odd: BOTH_USES }
    }

    /// Handles of mappings of a frame that a domain granted under this reference.
    pub(crate) const fn handles(granter: u16, frame: u64, reference: u32) -> Forgery {
        Forgery { even: (granter as u64) << DOMAIN_OF_NOTE | MAPPED | frame, odd: reference as u64 }
    }

    /// Words that mean nothing, and are never 0.
    pub(crate) const fn noise(seed: u64) -> Forgery {
        let word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        Forgery { even: word & !1, odd: !word & !1 | 1 << 62 }
    }

    /// Returns the word at an index.
    pub(crate) const fn word(self, index: usize) -> u64 {
        if index.is_multiple_of(2) { self.even } else { self.odd }
    }
}

/// A forgery that one vCPU sets and another stores.
#[derive(Debug)]
pub(crate) struct Shared([AtomicU64; 2]);

impl Shared {
    pub(crate) const fn new() -> Shared {
        Shared([const { AtomicU64::new(0) }; 2])
    }

    /// Sets it. A reader may get one word of the old forgery and one of the new.
    pub(crate) fn set(&self, forgery: Forgery) {
        self.0[0].store(forgery.even, Relaxed);
        self.0[1].store(forgery.odd, Relaxed);
    }

    pub(crate) fn get(&self) -> Forgery {
        Forgery { even: self.0[0].load(Relaxed), odd: self.0[1].load(Relaxed) }
    }
}
