//! Owners and general references.

use super::kind::{Kind, Purpose, State};
use super::record::FrameEntry;
use super::word::TypeWord;
use super::word::{
    ALLOCATED, FOREIGN_MAPPED, MEMTYPE, MOVING, ONE_REF, OWNER_SHIFT, RAM, REF_COUNT,
    REF_COUNT_BITS, RefWord, SHARED,
};
use crate::ids::DomId;
use crate::memtype::FrameMemType;
use crate::sync::Ordering;

/// Why no reference was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefError {
    /// The domain doesn't own it: it is no RAM, free, or another's.
    NotOwned,
    /// The count is full.
    Overflow,
    /// It has mappings, and they have another memory type.
    OtherMemType(FrameMemType),
    /// Another CPU is changing its memory type.
    Contended,
}

/// The bits above the count, in the reference word of a frame that the domain owns: computed once,
/// so that [`FrameEntry::get_owned`] compares all of them in one step.
#[inline]
pub(crate) const fn owned_pattern(dom: DomId) -> u64 {
    (dom.get() as u64) << OWNER_SHIFT | RAM | ALLOCATED
}

#[inline]
pub(super) const fn same_above_count(word: u64, pattern: u64) -> bool {
    (word ^ pattern) >> REF_COUNT_BITS == 0
}

/// Which CPUs may have a free frame cached in their TLBs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastUser {
    /// Those that ran the domain which owned it.
    Domain(DomId),
    /// Any: other domains mapped it too (`INV-FOREIGN`), or it was the hypervisor's, and may have been
    /// a table that every CPU's page walks went through.
    Anyone,
}

impl LastUser {
    /// As it is kept in a free frame's type word: a domain's number, or the one that no domain has.
    const fn bits(self) -> u64 {
        match self {
            LastUser::Domain(dom) => dom.get() as u64,
            LastUser::Anyone => DomId::HYPERVISOR.get() as u64,
        }
    }

    fn from_bits(bits: u32) -> LastUser {
        let dom = DomId::new(bits as u16);
        if dom == DomId::HYPERVISOR { LastUser::Anyone } else { LastUser::Domain(dom) }
    }
}

impl FrameEntry {
    /// Whether the domain owns the frame, it is not a shared one, and write-back (`INV-CACHE`).
    #[inline]
    pub(crate) fn is_owned(&self, pattern: u64) -> bool {
        same_above_count(self.refs.load(Ordering::Acquire), pattern)
    }

    /// Takes a general reference of a frame that the domain owns and that is write-back. `false` if
    /// it isn't, the count is full, or another CPU changed the word: [`FrameEntry::get_with_memtype`] then
    /// says which.
    ///
    /// Acquire pairs with the release in [`FrameEntry::assign_to`]: the frame is seen as it was given.
    #[inline]
    pub(crate) fn get_owned(&self, pattern: u64) -> bool {
        let word = self.refs.load(Ordering::Relaxed);
        // A full count overflows into the flags, which then differ from the pattern.
        let next = word.wrapping_add(ONE_REF);
        same_above_count(next, pattern)
            && self.refs.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes a general reference of a frame that the domain owns or that is shared with it, with any
    /// memory type: to keep its owner, not to access it.
    pub(crate) fn get(&self, dom: DomId) -> Result<(), RefError> {
        self.get_with(dom, |word| Ok((word, ())))
    }

    /// Takes a general reference of a frame that the domain owns or that is shared with it, and in the
    /// same exchange changes the rest of the word as `change` says, or fails as it says.
    ///
    /// Acquire pairs with the release of `put`, release with the acquire of a CPU that sees the change.
    #[inline]
    pub(super) fn get_with<T>(
        &self,
        dom: DomId,
        change: impl Fn(u64) -> Result<(u64, T), RefError>,
    ) -> Result<T, RefError> {
        let pattern = owned_pattern(dom);
        let mut word = self.refs.load(Ordering::Relaxed);
        loop {
            if !same_above_count(word & !(SHARED | MEMTYPE), pattern) {
                return Err(RefError::NotOwned);
            }
            // Guests drive this count, so that overflow is a refusal and not a bug.
            if word & REF_COUNT == REF_COUNT {
                return Err(RefError::Overflow);
            }
            let (changed, had) = change(word)?;
            let next = changed + ONE_REF;
            match self.refs.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(had),
                Err(now) => word = now,
            }
        }
    }

    /// Drops a general reference. Never the last one: that is the allocation, which only
    /// [`FrameEntry::take_back`] drops.
    ///
    /// Release pairs with the acquire in `take_back`: what the holder did with the frame is done before
    /// another owner gets it.
    #[inline]
    pub(crate) fn put(&self) {
        let before = self.refs.fetch_sub(ONE_REF, Ordering::Release);
        debug_assert!(before & REF_COUNT > ONE_REF, "INV-COUNT: no reference was held");
    }

    /// Marks the frame as mapped by another domain's table, before the entry is stored
    /// (`INV-FOREIGN`). The caller holds a reference, so the owner can't change.
    ///
    /// The CPU that later drops the entry's reference releases this bit with it, so that a CPU which
    /// takes the frame or its type after that sees the mark. Release and acquire, as a link of that
    /// chain.
    pub(crate) fn mark_foreign_mapped(&self) {
        self.refs.fetch_or(FOREIGN_MAPPED, Ordering::AcqRel);
    }

    /// Makes the frame usable, and free. `false` if it already was.
    pub(crate) fn make_ram(&self) -> bool {
        self.refs.compare_exchange(0, RAM, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes a frame the hypervisor's that isn't RAM yet: at boot, for memory that is in use already.
    /// `false` if it already was RAM.
    pub(crate) fn make_boot_memory(&self, purpose: Purpose) -> bool {
        let moving = RAM | MOVING;
        let ours =
            self.refs.compare_exchange(0, moving, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if ours {
            self.assign_to_hypervisor(purpose);
        }
        ours
    }

    /// Reserves a free frame for a new owner. `false` if it isn't free. On success only the caller may
    /// touch the frame, until one of [`FrameEntry::assign_to`],
    /// [`FrameEntry::share_with`], [`FrameEntry::assign_to_hypervisor`] and
    /// [`FrameEntry::cancel_alloc`].
    pub(crate) fn begin_alloc(&self) -> bool {
        self.refs.compare_exchange(RAM, RAM | MOVING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Which CPUs may have the frame that is being allocated cached, and the stamp of its release.
    /// `None`: none.
    pub(crate) fn last_user(&self) -> Option<(LastUser, u64)> {
        let word = self.type_word();
        word.stamp().map(|stamp| (LastUser::from_bits(word.count()), stamp))
    }

    /// Ends [`FrameEntry::begin_alloc`]: the frame is the domain's, with one reference for the
    /// allocation. No CPU has a translation of it cached, so it has no stamp.
    pub(crate) fn assign_to(&self, dom: DomId) {
        self.end_alloc(TypeWord(0), owned_pattern(dom) | ONE_REF);
    }

    /// Ends [`FrameEntry::begin_alloc`]: the frame is the hypervisor's, and the domain may map it.
    /// It has a writable reference as long as it is shared, so that it can get no other type.
    pub(crate) fn share_with(&self, dom: DomId) {
        let types = TypeWord::new(Kind::Writable, State::Validated, 1);
        self.end_alloc(types, owned_pattern(dom) | SHARED | (2 * ONE_REF));
    }

    /// Ends [`FrameEntry::begin_alloc`]: the frame is the hypervisor's own. Its type then never changes,
    /// and the purpose is in the bits of the count: no references can be taken.
    pub(crate) fn assign_to_hypervisor(&self, purpose: Purpose) {
        let types = TypeWord::new(Kind::Hypervisor, State::Validated, purpose as u64);
        self.end_alloc(types, owned_pattern(DomId::HYPERVISOR) | ONE_REF);
    }

    /// Ends [`FrameEntry::begin_alloc`]: the frame is free again, and needs no flush.
    pub(crate) fn cancel_alloc(&self) {
        self.end_alloc(TypeWord(0), RAM);
    }

    fn end_alloc(&self, types: TypeWord, refs: u64) {
        self.types.store(types.0, Ordering::Relaxed);
        // Release: a CPU that sees the new reference word sees the type word above.
        self.refs.store(refs, Ordering::Release);
    }

    /// Takes the frame back from its owner, if the allocation is the only reference (`INV-OWNER`; then
    /// the type is idle, `INV-COUNT`). On success only the caller may touch the frame, until
    /// [`FrameEntry::make_free`]. Not for a shared frame, which the hypervisor itself uses.
    ///
    /// Returns the word before. If the frame was foreign-mapped, any CPU may have it cached; if it
    /// wasn't write-back, the caches must be flushed of it.
    ///
    /// # Errors
    /// The word as it is, if there are other references or another owner.
    pub(crate) fn take_back(&self, dom: DomId) -> Result<RefWord, RefWord> {
        let owned = owned_pattern(dom) | ONE_REF;
        let take = |word| {
            self.refs.compare_exchange(word, RAM | MOVING, Ordering::AcqRel, Ordering::Acquire)
        };
        let seen = match take(owned) {
            Ok(word) => return Ok(RefWord(word)),
            Err(seen) => seen,
        };
        let alone = seen & !(FOREIGN_MAPPED | MEMTYPE) == owned;
        if alone && RefWord(seen).memtype() != FrameMemType::Changing {
            return take(seen).map(RefWord).map_err(RefWord);
        }
        Err(RefWord(seen))
    }

    /// Takes a shared frame back, if only the allocation and the hypervisor's own writable reference
    /// are left. The caller must do what [`FrameEntry::take_back`] says.
    pub(crate) fn take_back_shared(&self, dom: DomId) -> Result<(), RefWord> {
        let types = self.types.load(Ordering::Acquire);
        let idle = TypeWord::new(Kind::Writable, State::Validated, 1);
        let shared = owned_pattern(dom) | SHARED | (2 * ONE_REF);
        if TypeWord(types).without_stamp() == idle {
            // The type first: then no writable reference can be taken any more.
            let locked = idle.in_state(State::Devalidating).with_count(0);
            let won =
                self.types.compare_exchange(types, locked.0, Ordering::AcqRel, Ordering::Relaxed);
            if won.is_ok() {
                let taken = self.refs.compare_exchange(
                    shared,
                    RAM | MOVING,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                match taken {
                    Ok(_) => return Ok(()),
                    Err(_) => self.types.store(types, Ordering::Release),
                }
            }
        }
        Err(RefWord(self.refs.load(Ordering::Acquire)))
    }

    /// Takes back a frame of the hypervisor's own. `false` if it isn't one. On success only the caller
    /// may touch the frame, until [`FrameEntry::make_free`].
    pub(crate) fn take_back_from_hypervisor(&self) -> bool {
        let owned = owned_pattern(DomId::HYPERVISOR) | ONE_REF;
        self.refs.compare_exchange(owned, RAM | MOVING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends [`FrameEntry::take_back`]: the frame is free, and keeps its last user and the time of its
    /// release.
    pub(crate) fn make_free(&self, last: LastUser, now: u64) {
        let kind = self.type_word().kind();
        let types = TypeWord::new(kind, State::Idle, last.bits()).with_stamp(now);
        self.types.store(types.0, Ordering::Relaxed);
        // Release: a CPU that takes the frame next sees the stamp.
        self.refs.store(RAM, Ordering::Release);
    }
}
