//! A borrower's mappings, by the numbers that it knows them by.
//!
//! | word | bits   | meaning                                                        |
//! |------|--------|----------------------------------------------------------------|
//! | 0    | 0..40  | the frame                                                      |
//! | 0    | 40..42 | state: free, busy, mapped                                      |
//! | 0    | 42     | mapped read-only                                               |
//! | 0    | 43     | the address was a page-table entry's                           |
//! | 0    | 48..64 | the granter                                                    |
//! | 1    | 0..32  | the reference; of a free one: the next free one plus one, or 0 |
//!
//! A handle is *busy* while its mapping is made or unmade, and is nobody else's then.

use crate::words::Words;
use core::sync::atomic::{AtomicU64, Ordering};

const FRAME: u64 = (1 << 40) - 1;
const STATE_SHIFT: u32 = 40;
const STATE: u64 = 3 << STATE_SHIFT;
const FREE: u64 = 0;
const BUSY: u64 = 1 << STATE_SHIFT;
const MAPPED: u64 = 2 << STATE_SHIFT;
const READ_ONLY: u64 = 1 << 42;
const BY_ENTRY: u64 = 1 << 43;
const GRANTER_SHIFT: u32 = 48;

/// Words of a handle.
const WORDS: usize = 2;

/// A mapping of a granted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Who grants.
    pub granter: u16,
    /// By which entry.
    pub reference: u32,
    /// The frame.
    pub frame: u64,
    /// Whether it can be written to.
    pub writable: bool,
    /// Whether its place was given as the machine address of a page-table entry.
    pub by_entry: bool,
}

/// The handles of a domain.
#[derive(Debug)]
pub struct Handles<W> {
    words: W,
    /// Handles that were ever given out: `0..used`.
    used: u32,
    /// One plus the first free one of those; 0: none.
    free: u32,
}

impl<W: Words> Handles<W> {
    /// None yet.
    pub const fn new(words: W) -> Handles<W> {
        Handles { words, used: 0, free: 0 }
    }

    /// The words, so that they can grow; they may not shrink.
    pub fn words(&mut self) -> &mut W {
        &mut self.words
    }

    fn pair(&self, handle: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let first = usize::try_from(handle).ok()?.checked_mul(WORDS)?;
        Some((self.words.word(first)?, self.words.word(first.checked_add(1)?)?))
    }

    /// Takes a free handle, which is busy then. `None`: the words must grow, or there are too many.
    pub fn reserve(&mut self) -> Option<u32> {
        if let Some(handle) = self.free.checked_sub(1) {
            let (state, next) = self.pair(handle)?;
            let next = next.load(Ordering::Relaxed) as u32;
            state.store(BUSY, Ordering::Relaxed);
            self.free = next;
            return Some(handle);
        }
        let handle = self.used;
        let next = handle.checked_add(1)?;
        self.pair(handle)?.0.store(BUSY, Ordering::Relaxed);
        self.used = next;
        Some(handle)
    }

    /// Makes a busy handle one of a mapping.
    pub fn fill(&mut self, handle: u32, mapping: Mapping) {
        let Some((state, reference)) = self.busy(handle) else { return };
        let flags = if mapping.writable { 0 } else { READ_ONLY }
            | if mapping.by_entry { BY_ENTRY } else { 0 };
        let granter = u64::from(mapping.granter) << GRANTER_SHIFT;
        state.store(mapping.frame & FRAME | MAPPED | flags | granter, Ordering::Relaxed);
        reference.store(mapping.reference.into(), Ordering::Relaxed);
    }

    /// Takes the mapping of a handle, which is busy then; `None` if it has none.
    pub fn take(&mut self, handle: u32) -> Option<Mapping> {
        let mapping = self.look(handle)?;
        self.pair(handle)?.0.store(BUSY, Ordering::Relaxed);
        Some(mapping)
    }

    /// Frees a busy handle.
    pub fn release(&mut self, handle: u32) {
        let Some((state, next)) = self.busy(handle) else { return };
        state.store(FREE, Ordering::Relaxed);
        next.store(self.free.into(), Ordering::Relaxed);
        self.free = handle + 1;
    }

    fn busy(&self, handle: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let pair = self.pair(handle).filter(|_| handle < self.used);
        let busy = pair.filter(|(state, _)| state.load(Ordering::Relaxed) & STATE == BUSY);
        debug_assert!(busy.is_some(), "a handle that isn't busy is changed");
        busy
    }

    /// The mapping of a handle, if it has one.
    fn look(&self, handle: u32) -> Option<Mapping> {
        if handle >= self.used {
            return None;
        }
        let (state, reference) = self.pair(handle)?;
        let (state, reference) = (state.load(Ordering::Relaxed), reference.load(Ordering::Relaxed));
        (state & STATE == MAPPED).then_some(Mapping {
            granter: (state >> GRANTER_SHIFT) as u16,
            reference: reference as u32,
            frame: state & FRAME,
            writable: state & READ_ONLY == 0,
            by_entry: state & BY_ENTRY != 0,
        })
    }

    /// Takes any mapping that there is, and its handle, which is free then: for a domain that ends.
    /// Begin with `from` 0, and go on with what came out.
    pub fn take_any(&mut self, from: u32) -> Option<(u32, Mapping)> {
        (from..self.used).find_map(|handle| {
            let mapping = self.take(handle)?;
            self.release(handle);
            Some((handle, mapping))
        })
    }
}
