//! Transitions of the type word. [`super`] draws them.

use super::kind::{Kind, State};
use super::record::FrameEntry;
use super::word::{COUNT, KIND_AND_STATE, PINNED, Progress, TypeWord};
use crate::sync::Ordering;

/// What [`FrameEntry::begin_type`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Took one more reference of a validated type.
    Shared,
    /// Began the type from idle; the word before. The caller has the frame to itself, in state
    /// validating, and must publish, finish or suspend it.
    Started(TypeWord),
    /// Resumed the type from partial, with the same duty. Entries `[0, resume)` hold references.
    Resumed(Progress),
    /// Began to undo another type, from partial. The state is devalidating; the caller must finish
    /// or suspend it, and try again.
    Undoing(Progress),
}

/// Why no type reference was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginError {
    /// The frame has another type.
    OtherType(TypeWord),
    /// One more does not fit in the count.
    Overflow(TypeWord),
    /// Another CPU is in the middle of a change.
    Contended,
}

/// What is left after a type reference was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// The type has other references.
    StillHeld,
    /// No reference, and a frame without entries is idle at once. The caller drops the type's
    /// general reference.
    Idle,
    /// No reference. The state is devalidating, and the caller must take the table apart.
    LastOfTable,
}

impl FrameEntry {
    /// Takes one more reference of a validated type. `false` if the type is another one or not
    /// validated, the count is full, or another CPU changed the word: [`FrameEntry::begin_type`] then
    /// tells these apart.
    ///
    /// The caller checks the owner before, so that domains can't touch each other's counts, and again
    /// after: only with the reference held can the owner not change, and a frame of another owner may
    /// have the same type word.
    ///
    /// Acquire pairs with [`FrameEntry::publish`].
    #[inline]
    pub(crate) fn get_type_ref(&self, kind: Kind) -> bool {
        let word = self.types.load(Ordering::Relaxed);
        let pattern = TypeWord::pattern(kind, State::Validated);
        word & KIND_AND_STATE == pattern
            && word & COUNT != COUNT
            && self
                .types
                .compare_exchange(word, word.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes the first writable reference of an idle frame that need not be flushed for: begin and
    /// publish in one, since there is nothing to do in between. `false` if the frame is not idle,
    /// needs a flush, or another CPU changed the word. The caller's general reference becomes the
    /// type's.
    #[inline]
    pub(crate) fn begin_writable(&self) -> bool {
        let word = self.types.load(Ordering::Relaxed);
        let seen = TypeWord(word);
        if seen.state() != State::Idle {
            return false;
        }
        let next = TypeWord::new(Kind::Writable, State::Validated, 1);
        let next = match (seen.kind(), seen.stamp()) {
            (_, None) => next,
            (Kind::Writable, Some(stamp)) => next.with_stamp(stamp),
            // It was a table, so CPUs must be flushed first (INV-TLB).
            (_, Some(_)) => return false,
        };
        self.types.compare_exchange(word, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes one more reference of a validated table of any level. Loops where
    /// [`FrameEntry::get_type_ref`] gives up: the caller would take a table for a plain frame only
    /// because another CPU changed the count.
    #[inline]
    pub(crate) fn get_table_ref(&self) -> Option<Kind> {
        let mut word = self.types.load(Ordering::Relaxed);
        loop {
            let seen = TypeWord(word);
            if seen.kind().level().is_none()
                || seen.state() != State::Validated
                || word & COUNT == COUNT
            {
                return None;
            }
            match self.types.compare_exchange_weak(
                word,
                word.wrapping_add(1),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(seen.kind()),
                Err(now) => word = now,
            }
        }
    }

    /// Takes a reference of a type, from any state that allows it (`INV-TYPE`). The caller holds a
    /// general reference, so the owner can't change. That reference becomes the type's if the type
    /// began from idle; otherwise the caller drops it.
    pub(crate) fn begin_type(&self, kind: Kind) -> Result<Begun, BeginError> {
        let mut word = self.types.load(Ordering::Relaxed);
        loop {
            let seen = TypeWord(word);
            let (next, entered) = match seen.state() {
                State::Validated if seen.kind() != kind => return Err(BeginError::OtherType(seen)),
                State::Validated if word & COUNT == COUNT => {
                    return Err(BeginError::Overflow(seen));
                }
                State::Validated => (word + 1, Begun::Shared),
                // A frame that is being validated as another type counts as of that type. One that is
                // being validated as this type, or devalidated, will soon be in another state.
                State::Validating if seen.kind() != kind => {
                    return Err(BeginError::OtherType(seen));
                }
                State::Validating | State::Devalidating => return Err(BeginError::Contended),
                State::Idle => {
                    let next = TypeWord::new(kind, State::Validating, 1);
                    // A writable frame keeps its stamp: a reference without a mapping does not
                    // change it.
                    let next = match (kind, seen.stamp()) {
                        (Kind::Writable, Some(stamp)) => next.with_stamp(stamp),
                        (Kind::Writable, None) => next,
                        _ => next.with_progress(Progress::START),
                    };
                    (next.0, Begun::Started(seen))
                }
                State::Partial if seen.kind() == kind => (
                    seen.in_state(State::Validating).with_count(1).0,
                    Begun::Resumed(seen.progress()),
                ),
                State::Partial => {
                    (seen.in_state(State::Devalidating).0, Begun::Undoing(seen.progress()))
                }
            };
            match self.types.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(entered),
                Err(now) => word = now,
            }
        }
    }

    /// Begins to take a partial table apart; `None` if it isn't partial.
    pub(crate) fn begin_undo(&self) -> Option<(Kind, Progress)> {
        let seen = self.type_word();
        if seen.state() != State::Partial {
            return None;
        }
        let next = seen.in_state(State::Devalidating);
        self.types
            .compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| (seen.kind(), seen.progress()))
    }

    /// Ends validating: the type is usable, with the one reference of this CPU. `stamp`: the stamp
    /// that a writable frame keeps.
    ///
    /// A plain store, since no other CPU writes the word in this state. Release pairs with the acquire
    /// of the next reference: that CPU sees the frame flushed, checked and with its effective entries.
    pub(crate) fn publish(&self, kind: Kind, stamp: Option<u64>) {
        debug_assert_eq!(self.type_word().state(), State::Validating);
        let word = TypeWord::new(kind, State::Validated, 1);
        let word = stamp.map_or(word, |stamp| word.with_stamp(stamp));
        self.types.store(word.0, Ordering::Release);
    }

    /// Leaves validating or devalidating before the end (`INV-PARTIAL`). Release: the CPU that
    /// resumes sees what was done.
    pub(crate) fn suspend(&self, kind: Kind, progress: Progress) {
        debug_assert!(matches!(self.type_word().state(), State::Validating | State::Devalidating));
        let word = TypeWord::new(kind, State::Partial, 0).with_progress(progress);
        self.types.store(word.0, Ordering::Release);
    }

    /// Leaves validating or devalidating when no entry holds a reference: the frame is idle. `stamp`:
    /// when the last use of the type ended, if CPUs may have it cached; the frame then keeps its kind
    /// as well. The caller drops the type's general reference afterwards.
    pub(crate) fn finish(&self, kind: Kind, stamp: Option<u64>) {
        debug_assert!(matches!(self.type_word().state(), State::Validating | State::Devalidating));
        let word = match stamp {
            Some(now) => TypeWord::new(kind, State::Idle, 0).with_stamp(now),
            None => TypeWord(0),
        };
        self.types.store(word.0, Ordering::Release);
    }

    /// Drops a writable reference whose entry is gone from the tables, and stamps the frame with the
    /// flush clock. `true` if it was the last: the caller then drops the type's general reference.
    ///
    /// Every drop stamps, not only the last (`INV-STAMP`, XSA-241). The clock is read after the word
    /// and before the exchange. If another CPU maps and unmaps the frame in between, it stamps the
    /// word with a later time, and the exchange fails. If it stamps the same time, no flush lies
    /// between the two, and one stamp is right for both.
    #[inline]
    pub(crate) fn put_writable_ref(&self, now: impl Fn() -> u64) -> bool {
        let mut word = self.types.load(Ordering::Acquire);
        loop {
            debug_assert_eq!(
                word & KIND_AND_STATE,
                TypeWord::pattern(Kind::Writable, State::Validated)
            );
            debug_assert!(word & COUNT != 0, "INV-COUNT: no reference was held");
            let last = word & COUNT == 1;
            let next = TypeWord(word.wrapping_sub(1)).with_stamp(now());
            let next = if last { next.in_state(State::Idle) } else { next };
            match self.types.compare_exchange_weak(
                word,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return last,
                Err(now) => word = now,
            }
        }
    }

    /// Drops a reference that mapped nothing, so that the stamp stays what it was. Of a descriptor
    /// page the caller passes a stamp, since CPUs may have it cached.
    pub(crate) fn put_type_ref(&self, kind: Kind, stamp: Option<u64>) -> PutOutcome {
        let mut word = self.types.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & KIND_AND_STATE, TypeWord::pattern(kind, State::Validated));
            debug_assert!(word & COUNT != 0, "INV-COUNT: no reference was held");
            let seen = TypeWord(word);
            let (next, left) = if word & COUNT != 1 {
                (TypeWord(word.wrapping_sub(1)), PutOutcome::StillHeld)
            } else if kind.level().is_some() {
                debug_assert!(!seen.is_pinned(), "INV-PIN: a pin is a reference");
                let next = seen.in_state(State::Devalidating).with_count(0);
                (next.with_progress(Progress::WHOLE), PutOutcome::LastOfTable)
            } else {
                (seen.in_state(State::Idle).with_count(0), PutOutcome::Idle)
            };
            let next = stamp.map_or(next, |now| next.with_stamp(now));
            // Release: what this holder did is done before the frame gets another type.
            match self.types.compare_exchange_weak(
                word,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return left,
                Err(now) => word = now,
            }
        }
    }

    /// Drops a table reference if others are left. `false` if it is the last, or another CPU changed
    /// the word: [`FrameEntry::put_type_ref`] then does it.
    #[inline]
    pub(crate) fn try_put_table_ref(&self) -> bool {
        let word = self.types.load(Ordering::Relaxed);
        word & COUNT > 1
            && self
                .types
                .compare_exchange(word, word.wrapping_sub(1), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Turns the caller's reference of a validated table into the pin (`INV-PIN`). `false` if it is
    /// pinned already.
    pub(crate) fn set_pinned(&self) -> bool {
        self.types.fetch_or(PINNED, Ordering::AcqRel) & PINNED == 0
    }

    /// Removes the pin of a table; the caller then drops the pin's reference.
    ///
    /// # Errors
    /// The word, if it isn't pinned.
    pub(crate) fn clear_pinned(&self) -> Result<Kind, TypeWord> {
        let mut word = self.types.load(Ordering::Relaxed);
        loop {
            if word & PINNED == 0 {
                return Err(TypeWord(word));
            }
            match self.types.compare_exchange_weak(
                word,
                word & !PINNED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(TypeWord(word).kind()),
                Err(now) => word = now,
            }
        }
    }
}
