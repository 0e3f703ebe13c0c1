//! Transitions of the type word. [`super`] draws them.

use super::kind::{Kind, State};
use super::record::FrameEntry;
use super::word::{COUNT, KIND_AND_STATE, PINNED, Progress, TypeWord};
use crate::sync::Ordering;

/// How a type was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// One more reference of a type that was there.
    Shared,
    /// From idle; the word it was idle with. The caller has the frame to itself, in state
    /// validating, and must publish, fail or suspend.
    Started(TypeWord),
    /// From partial, with the same duty; entries `[0, resume)` are held.
    Resumed(Progress),
    /// From partial of another type; state devalidating, and the caller must settle or suspend,
    /// and then ask again.
    Undoing(Progress),
}

/// Why a type was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginError {
    /// Held as something else.
    OtherType(TypeWord),
    /// One more does not fit in the count.
    Overflow(TypeWord),
    /// Another CPU is in the middle of a change.
    Contended,
}

/// What a dropped reference left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// Others hold the type.
    StillHeld,
    /// Nobody; a frame with no entries is idle at once. The caller drops the type's general
    /// reference.
    Idle,
    /// Nobody; state devalidating, and the caller must take the table apart.
    LastOfTable,
}

impl FrameEntry {
    /// Takes one more reference of a type that is validated. `false` if it isn't so, if one more
    /// does not fit, or if another CPU was faster: [`FrameEntry::begin_type`] then says which.
    ///
    /// The caller looks at the owner before (or foreigners could disturb each other's frames) and
    /// again after: the count that it now holds keeps the owner from changing, while before, the
    /// frame may have changed hands with the type word looking just the same.
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

    /// Takes the first writable reference of an idle frame that owes no flush for it: the short way
    /// of begin and publish, for there is nothing to do in between. `false` if it isn't so, or
    /// another CPU was faster. The caller's general reference becomes the type's.
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
            // It was a table: INV-TLB.
            (_, Some(_)) => return false,
        };
        self.types.compare_exchange(word, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes one more reference of whatever table the frame is, if it is a validated one. Loops
    /// where [`FrameEntry::get_type_ref`] gives up: a table in use must not be taken for none because
    /// another CPU uses it too.
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
    /// general reference, so the owner stays; it keeps that reference for the type if it entered
    /// from idle, and drops it otherwise.
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
                // A frame on its way to another type is held as that; one on its way to this type,
                // or to none, will soon be somewhere else.
                State::Validating if seen.kind() != kind => {
                    return Err(BeginError::OtherType(seen));
                }
                State::Validating | State::Devalidating => return Err(BeginError::Contended),
                State::Idle => {
                    let next = TypeWord::new(kind, State::Validating, 1);
                    // A writable frame keeps its stamp: references that map nothing leave it as
                    // it was.
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

    /// Enters a partial table to take it apart; `None` if it isn't one.
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

    /// Ends validating: the type is usable, with the one reference of the CPU that entered.
    ///
    /// A plain store: in this state nobody else writes the word. Release pairs with the acquire of
    /// whoever joins: the frame is seen flushed, checked and with its effective entries.
    /// `stamp`: the stamp that a writable frame still has.
    pub(crate) fn publish(&self, kind: Kind, stamp: Option<u64>) {
        debug_assert_eq!(self.type_word().state(), State::Validating);
        let word = TypeWord::new(kind, State::Validated, 1);
        let word = stamp.map_or(word, |stamp| word.with_stamp(stamp));
        self.types.store(word.0, Ordering::Release);
    }

    /// Leaves validating or devalidating halfway (`INV-PARTIAL`). Release: whoever goes on sees
    /// what was done.
    pub(crate) fn suspend(&self, kind: Kind, progress: Progress) {
        debug_assert!(matches!(self.type_word().state(), State::Validating | State::Devalidating));
        let word = TypeWord::new(kind, State::Partial, 0).with_progress(progress);
        self.types.store(word.0, Ordering::Release);
    }

    /// Leaves validating or devalidating with no entry held: the frame is idle. `stamp`: when the
    /// last use of it ended, if CPUs may have used it; the frame then remembers as what. The
    /// caller drops the type's general reference afterwards.
    pub(crate) fn finish(&self, kind: Kind, stamp: Option<u64>) {
        debug_assert!(matches!(self.type_word().state(), State::Validating | State::Devalidating));
        let word = match stamp {
            Some(now) => TypeWord::new(kind, State::Idle, 0).with_stamp(now),
            None => TypeWord(0),
        };
        self.types.store(word.0, Ordering::Release);
    }

    /// Drops a writable reference whose entry is gone from the tables, stamping the frame with the
    /// flush clock. `true` if it was the last: the caller then drops the type's general reference.
    ///
    /// Every drop stamps, not just the last (`INV-STAMP`, XSA-241). The clock is read after the
    /// word and before the exchange: had another writer come, mapped, unmapped and gone in
    /// between, it would have stamped the word with a later clock, and the exchange would fail;
    /// with the same clock, no flush lies between the two, and one stamp serves both.
    #[inline]
    pub(crate) fn put_writable_ref(&self, now: impl Fn() -> u64) -> bool {
        let mut word = self.types.load(Ordering::Acquire);
        loop {
            debug_assert_eq!(
                word & KIND_AND_STATE,
                TypeWord::pattern(Kind::Writable, State::Validated)
            );
            debug_assert!(word & COUNT != 0, "INV-COUNT: nobody held this");
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

    /// Drops a reference whose holder mapped nothing: the stamp stays what it was. For a
    /// descriptor page the caller passes a stamp, as its entries were in a GDT.
    pub(crate) fn put_type_ref(&self, kind: Kind, stamp: Option<u64>) -> PutOutcome {
        let mut word = self.types.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & KIND_AND_STATE, TypeWord::pattern(kind, State::Validated));
            debug_assert!(word & COUNT != 0, "INV-COUNT: nobody held this");
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
            // Release: what this holder did is over before the frame becomes something else.
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

    /// Drops a table reference if others are left; `false` if it is the last, or another CPU was
    /// faster: [`FrameEntry::put_type_ref`] then does it.
    #[inline]
    pub(crate) fn try_put_table_ref(&self) -> bool {
        let word = self.types.load(Ordering::Relaxed);
        word & COUNT > 1
            && self
                .types
                .compare_exchange(word, word.wrapping_sub(1), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Makes the reference that the caller holds on a validated table the pin (`INV-PIN`).
    /// `false` if there is one already.
    pub(crate) fn set_pinned(&self) -> bool {
        self.types.fetch_or(PINNED, Ordering::AcqRel) & PINNED == 0
    }

    /// Takes the pin away from a table; the caller then has its reference to drop. The word as it
    /// was, if it isn't pinned.
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
