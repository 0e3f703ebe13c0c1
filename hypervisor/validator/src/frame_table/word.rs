//! The two packed words.
//!
//! Reference word:
//!
//! | bits   | meaning                                                                     |
//! |--------|-----------------------------------------------------------------------------|
//! | 0      | foreign-mapped: entries of other domains may map it, or may have (`INV-FOREIGN`) |
//! | 1..40  | general references; all ones is full: one more is refused                   |
//! | 40     | RAM that the validator manages                                              |
//! | 41     | allocated: has an owner, and one of the references is the allocation        |
//! | 42     | shared: the hypervisor's; its owner may map it, but not use it as a table   |
//! | 43     | moving: one CPU is changing its owner; no other may touch it                |
//! | 44..47 | caching: the type of its mappings, 0 for write-back, or 6, 7: [`FrameMemType`]   |
//! | 47     | zero                                                                        |
//! | 48..64 | owner                                                                       |
//!
//! Type word:
//!
//! | bits   | meaning                                                                     |
//! |--------|-----------------------------------------------------------------------------|
//! | 0..24  | type references; of a free frame: its last owner; of the hypervisor's: [`Purpose`](super::Purpose) |
//! | 24..27 | [`Kind`]; of an idle frame: what it was last                                |
//! | 27..30 | [`State`]                                                                   |
//! | 30     | pinned                                                                      |
//! | 31     | stamped: bits 34..64 are a stamp of the flush clock                         |
//! | 32..34 | zero                                                                        |
//! | 34..64 | the stamp; while the type is a table's and not validated, instead:          |
//! | 34..44 | resume: entries `[0, resume)` hold references                               |
//! | 44..54 | suspect: the entry that made validation fail, 512 if none did               |
//! | 54     | live: the table was validated since its flush, so CPUs may have walked it   |

use super::kind::{Kind, State};
use crate::addr::ENTRIES;
use crate::ids::DomId;
use crate::memtype::FrameMemType;

/// Below the count, so that a fast path, which compares all bits above the count, ignores it.
pub(super) const FOREIGN_MAPPED: u64 = 1;
/// One general reference.
pub(super) const ONE_REF: u64 = 1 << 1;
/// Bits below the flags: the general count and [`FOREIGN_MAPPED`].
pub(super) const REF_COUNT_BITS: u32 = 40;
pub(super) const REF_COUNT: u64 = ((1 << REF_COUNT_BITS) - 1) & !FOREIGN_MAPPED;
pub(super) const RAM: u64 = 1 << 40;
pub(super) const ALLOCATED: u64 = 1 << 41;
pub(super) const SHARED: u64 = 1 << 42;
pub(super) const MOVING: u64 = 1 << 43;
/// Above the count, so that a fast path, which compares all bits above it, takes write-back frames
/// only.
pub(super) const MEMTYPE_SHIFT: u32 = 44;
pub(super) const MEMTYPE: u64 = 7 << MEMTYPE_SHIFT;
pub(super) const OWNER_SHIFT: u32 = 48;

pub(super) const COUNT: u64 = (1 << 24) - 1;
const KIND_SHIFT: u32 = 24;
const STATE_SHIFT: u32 = 27;
pub(super) const PINNED: u64 = 1 << 30;
pub(super) const STAMPED: u64 = 1 << 31;
pub(super) const KIND_AND_STATE: u64 = 0x3f << KIND_SHIFT;
const STATE: u64 = 7 << STATE_SHIFT;
pub(super) const PAYLOAD_SHIFT: u32 = 34;
pub(super) const PAYLOAD: u64 = !0 << PAYLOAD_SHIFT;
/// Bits of a stamp.
pub(crate) const STAMP_BITS: u32 = 64 - PAYLOAD_SHIFT;
const RESUME_SHIFT: u32 = PAYLOAD_SHIFT;
const SUSPECT_SHIFT: u32 = 44;
const LIVE: u64 = 1 << 54;
const NO_SUSPECT: u16 = ENTRIES as u16;

const _: () = {
    // No two fields share a bit.
    let refs =
        [REF_COUNT | FOREIGN_MAPPED, RAM, ALLOCATED, SHARED, MOVING, MEMTYPE, !0 << OWNER_SHIFT];
    let types = [COUNT, 7 << KIND_SHIFT, STATE, PINNED, STAMPED, PAYLOAD, 0];
    let mut i = 0;
    while i < refs.len() {
        let mut j = 0;
        while j < i {
            assert!(refs[i] & refs[j] == 0 && types[i] & types[j] == 0);
            j += 1;
        }
        i += 1;
    }
    // A free frame keeps its last owner where the count is.
    assert!(COUNT >= u16::MAX as u64);
    // The progress of a table fits where the stamp is.
    assert!(LIVE & PAYLOAD != 0 && ENTRIES < 1 << (SUSPECT_SHIFT - RESUME_SHIFT));
};

/// A copy of a reference word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefWord(pub(super) u64);

impl RefWord {
    pub(crate) fn count(self) -> u64 {
        (self.0 & REF_COUNT) / ONE_REF
    }

    /// Whether tables of other domains may map it, or may have since it got its owner.
    #[inline]
    pub(crate) fn is_foreign_mapped(self) -> bool {
        self.0 & FOREIGN_MAPPED != 0
    }

    /// Memory type of its mappings.
    pub(crate) const fn memtype(self) -> FrameMemType {
        FrameMemType::from_bits(self.0 >> MEMTYPE_SHIFT)
    }

    pub(crate) fn is_ram(self) -> bool {
        self.0 & RAM != 0
    }

    pub(crate) fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }

    #[inline]
    pub(crate) fn owner(self) -> Option<DomId> {
        let given = self.0 & (ALLOCATED | MOVING) == ALLOCATED;
        given.then_some(DomId::new((self.0 >> OWNER_SHIFT) as u16))
    }
}

/// How far validation, or its reverse, has come in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Entries `[0, resume)` hold references.
    pub(crate) resume: u16,
    /// The entry that made validation fail. References that were taken are dropped first; then this
    /// entry is checked again, for the evidence.
    pub(crate) suspect: Option<u16>,
    /// The table was validated since its flush, so page walks may have it cached.
    pub(crate) live: bool,
}

impl Progress {
    /// Of a table whose validation begins.
    pub(crate) const START: Progress = Progress { resume: 0, suspect: None, live: false };
    /// Of a validated table whose last reference was dropped.
    pub(crate) const WHOLE: Progress =
        Progress { resume: ENTRIES as u16, suspect: None, live: true };

    const fn bits(self) -> u64 {
        let suspect = match self.suspect {
            Some(index) => index,
            None => NO_SUSPECT,
        };
        (self.resume as u64) << RESUME_SHIFT
            | (suspect as u64) << SUSPECT_SHIFT
            | if self.live { LIVE } else { 0 }
    }
}

/// A copy of a type word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeWord(pub(super) u64);

impl TypeWord {
    /// A word with nothing but kind, state and count.
    #[inline]
    pub(super) const fn new(kind: Kind, state: State, count: u64) -> TypeWord {
        TypeWord(Self::pattern(kind, state) | count)
    }

    /// The bits that a word of this kind and state has under [`KIND_AND_STATE`].
    #[inline]
    pub(super) const fn pattern(kind: Kind, state: State) -> u64 {
        (kind as u64) << KIND_SHIFT | (state as u64) << STATE_SHIFT
    }

    #[inline]
    pub(crate) const fn count(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    #[inline]
    pub(crate) const fn kind(self) -> Kind {
        Kind::from_bits(self.0 >> KIND_SHIFT & 7)
    }

    #[inline]
    pub(crate) const fn state(self) -> State {
        State::from_bits(self.0 >> STATE_SHIFT & 7)
    }

    pub(crate) const fn is_full(self) -> bool {
        self.0 & COUNT == COUNT
    }

    #[inline]
    pub(crate) const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// The stamp, if there is one: low bits of the flush clock.
    #[inline]
    pub(crate) const fn stamp(self) -> Option<u64> {
        if self.0 & STAMPED != 0 { Some(self.0 >> PAYLOAD_SHIFT) } else { None }
    }

    /// The same word with another stamp.
    #[inline]
    pub(super) const fn with_stamp(self, now: u64) -> TypeWord {
        TypeWord(self.0 & !PAYLOAD | STAMPED | now << PAYLOAD_SHIFT)
    }

    /// The same word with no stamp.
    pub(super) const fn without_stamp(self) -> TypeWord {
        TypeWord(self.0 & !(PAYLOAD | STAMPED))
    }

    /// The same word in another state.
    #[inline]
    pub(super) const fn in_state(self, state: State) -> TypeWord {
        TypeWord(self.0 & !STATE | (state as u64) << STATE_SHIFT)
    }

    /// The same word with another count.
    pub(super) const fn with_count(self, count: u64) -> TypeWord {
        TypeWord(self.0 & !COUNT | count)
    }

    /// How far the table is. Without meaning while it is idle or validated.
    pub(crate) const fn progress(self) -> Progress {
        let suspect = (self.0 >> SUSPECT_SHIFT & 0x3ff) as u16;
        Progress {
            resume: (self.0 >> RESUME_SHIFT & 0x3ff) as u16,
            suspect: if suspect < NO_SUSPECT { Some(suspect) } else { None },
            live: self.0 & LIVE != 0,
        }
    }

    /// The same word with other progress.
    pub(super) const fn with_progress(self, progress: Progress) -> TypeWord {
        TypeWord(self.0 & !(PAYLOAD | STAMPED) | progress.bits())
    }
}
