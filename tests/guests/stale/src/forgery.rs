//! What is stored through stale translations: words that would mean something where the hypervisor
//! keeps its books. Each page is filled with pairs of them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Low half of an entry of a grant table: permit access, to this domain.
const PERMIT: u64 = 1;
/// The same, of an entry by which a frame is accepted.
const ACCEPT_TRANSFER: u64 = 2;
const DOMAIN_OF_ENTRY: u32 = 16;
const FRAME_OF_ENTRY: u32 = 32;
/// Upper half-word of a note about an entry's use, and of a handle: a domain.
const DOMAIN_OF_NOTE: u32 = 48;
/// One use for reading and one for writing.
const BOTH_USES: u64 = 1 << 32 | 1;
/// A handle in use.
const MAPPED: u64 = 2 << 40;

/// Words for even and for odd places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgery {
    pub(crate) even: u64,
    pub(crate) odd: u64,
}

impl Forgery {
    /// Entries of a grant table that lend a frame to a domain.
    pub(crate) const fn entries(borrower: u16, frame: u64) -> Forgery {
        let entry = PERMIT | (borrower as u64) << DOMAIN_OF_ENTRY | frame << FRAME_OF_ENTRY;
        Forgery { even: entry, odd: entry }
    }

    /// An entry by which a domain's frame is accepted; a true one.
    pub(crate) const fn accept(from: u16) -> u64 {
        ACCEPT_TRANSFER | (from as u64) << DOMAIN_OF_ENTRY
    }

    /// Notes that a domain uses an entry, as this frame.
    pub(crate) const fn uses(borrower: u16, frame: u64) -> Forgery {
        Forgery { even: (borrower as u64) << DOMAIN_OF_NOTE | frame, odd: BOTH_USES }
    }

    /// Handles of mappings of a frame that a domain lends under this reference.
    pub(crate) const fn handles(granter: u16, frame: u64, reference: u32) -> Forgery {
        Forgery { even: (granter as u64) << DOMAIN_OF_NOTE | MAPPED | frame, odd: reference as u64 }
    }

    /// Nothing that means anything, and never zero.
    pub(crate) const fn noise(seed: u64) -> Forgery {
        let word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        Forgery { even: word & !1, odd: !word & !1 | 1 << 62 }
    }

    /// The word for a place.
    pub(crate) const fn word(self, index: usize) -> u64 {
        if index.is_multiple_of(2) { self.even } else { self.odd }
    }
}

/// A forgery that one vCPU chooses and another stores.
#[derive(Debug)]
pub(crate) struct Shared([AtomicU64; 2]);

impl Shared {
    pub(crate) const fn new() -> Shared {
        Shared([const { AtomicU64::new(0) }; 2])
    }

    /// Chooses. A reader may get a word of the old one and a word of the new one.
    pub(crate) fn set(&self, forgery: Forgery) {
        self.0[0].store(forgery.even, Relaxed);
        self.0[1].store(forgery.odd, Relaxed);
    }

    pub(crate) fn get(&self) -> Forgery {
        Forgery { even: self.0[0].load(Relaxed), odd: self.0[1].load(Relaxed) }
    }
}
