//! A domain's mappings of other domains' frames, by handle (Xen's "maptrack").
//!
//! Two words for each handle:
//!
//! | word | bits   | meaning                                                       |
//! |------|--------|---------------------------------------------------------------|
//! | 0    | 0..40  | machine frame number                                          |
//! | 0    | 40..42 | state: free, busy, mapped                                     |
//! | 0    | 42     | the mapping is read-only                                      |
//! | 0    | 43     | it was made with `GNTMAP_contains_pte`                        |
//! | 0    | 48..64 | the granting domain                                           |
//! | 1    | 0..32  | grant reference; of a free handle: next free handle + 1, or 0 |
//!
//! A handle is *busy* while its mapping is being made or removed. Only the caller that made it
//! busy may change it then.

use crate::word_array::WordArray;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::address::Mfn;

const FRAME: u64 = (1 << 40) - 1;
const STATE_SHIFT: u32 = 40;
const STATE: u64 = 3 << STATE_SHIFT;
const FREE: u64 = 0;
const BUSY: u64 = 1 << STATE_SHIFT;
const MAPPED: u64 = 2 << STATE_SHIFT;
const READ_ONLY: u64 = 1 << 42;
const CONTAINS_PTE: u64 = 1 << 43;
const GRANTER_SHIFT: u32 = 48;

/// Words for each handle.
const WORDS_PER_HANDLE: usize = 2;

/// A mapping of a granted frame, which a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaptrackEntry {
    /// The granting domain.
    pub granter: u16,
    /// The grant reference: index of the entry in the granter's table.
    pub reference: u32,
    /// The machine frame, below 2^40.
    pub frame: Mfn,
    /// Whether the mapping is writable.
    pub writable: bool,
    /// Whether the mapping's place was given as the machine address of a page-table entry
    /// (`GNTMAP_contains_pte`).
    pub contains_pte: bool,
}

/// The handles of one domain.
#[derive(Debug)]
pub struct Maptrack<W> {
    words: W,
    /// Number of handles that were ever allocated: `0..used`.
    used: u32,
    /// First handle of the free list + 1; 0: the list is empty.
    free: u32,
}

impl<W: WordArray> Maptrack<W> {
    /// A maptrack without any handles in use. `words` must be zero.
    pub const fn new(words: W) -> Maptrack<W> {
        Maptrack { words, used: 0, free: 0 }
    }

    /// The storage, so that the caller can make it grow. It must not shrink while handles are used.
    pub fn storage_mut(&mut self) -> &mut W {
        &mut self.words
    }

    fn words_of(&self, handle: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let first = usize::try_from(handle).ok()?.checked_mul(WORDS_PER_HANDLE)?;
        Some((self.words.word(first)?, self.words.word(first.checked_add(1)?)?))
    }

    /// Allocates a handle; it is busy. `None`: the storage is full.
    pub fn alloc(&mut self) -> Option<u32> {
        if let Some(handle) = self.free.checked_sub(1) {
            let (state, next) = self.words_of(handle)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "`free` stored the number of a handle"
            )]
            let next = next.load(Ordering::Relaxed) as u32;
            state.store(BUSY, Ordering::Relaxed);
            self.free = next;
            return Some(handle);
        }
        let handle = self.used;
        let next = handle.checked_add(1)?;
        self.words_of(handle)?.0.store(BUSY, Ordering::Relaxed);
        self.used = next;
        Some(handle)
    }

    /// Records the mapping of a busy handle, which is mapped from now on.
    pub fn set_mapped(&mut self, handle: u32, mapping: MaptrackEntry) {
        let Some((state, reference)) = self.busy_words_of(handle) else { return };
        let flags = if mapping.writable { 0 } else { READ_ONLY }
            | if mapping.contains_pte { CONTAINS_PTE } else { 0 };
        let granter = u64::from(mapping.granter) << GRANTER_SHIFT;
        state.store(mapping.frame.get() & FRAME | MAPPED | flags | granter, Ordering::Relaxed);
        reference.store(mapping.reference.into(), Ordering::Relaxed);
    }

    /// Returns the mapping of a handle and makes the handle busy. `None`: it isn't mapped.
    pub fn take(&mut self, handle: u32) -> Option<MaptrackEntry> {
        let mapping = self.get(handle)?;
        self.words_of(handle)?.0.store(BUSY, Ordering::Relaxed);
        Some(mapping)
    }

    /// Frees a busy handle.
    pub fn free(&mut self, handle: u32) {
        let Some((state, next)) = self.busy_words_of(handle) else { return };
        state.store(FREE, Ordering::Relaxed);
        next.store(self.free.into(), Ordering::Relaxed);
        self.free = handle + 1;
    }

    fn busy_words_of(&self, handle: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let words = self.words_of(handle).filter(|_| handle < self.used);
        let busy = words.filter(|(state, _)| state.load(Ordering::Relaxed) & STATE == BUSY);
        debug_assert!(busy.is_some(), "handle {handle} is changed but not busy");
        busy
    }

    fn get(&self, handle: u32) -> Option<MaptrackEntry> {
        if handle >= self.used {
            return None;
        }
        let (state, reference) = self.words_of(handle)?;
        #[expect(clippy::cast_possible_truncation, reason = "a grant reference was stored")]
        let reference = reference.load(Ordering::Relaxed) as u32;
        let state = state.load(Ordering::Relaxed);
        (state & STATE == MAPPED).then_some(MaptrackEntry {
            granter: (state >> GRANTER_SHIFT) as u16,
            reference,
            frame: Mfn::new(state & FRAME),
            writable: state & READ_ONLY == 0,
            contains_pte: state & CONTAINS_PTE != 0,
        })
    }

    /// Frees the first mapped handle from `from` on and returns it with its mapping. For the
    /// teardown of a domain: begin with 0, go on with the handle that was returned.
    pub fn take_next(&mut self, from: u32) -> Option<(u32, MaptrackEntry)> {
        (from..self.used).find_map(|handle| {
            let mapping = self.take(handle)?;
            self.free(handle);
            Some((handle, mapping))
        })
    }
}
