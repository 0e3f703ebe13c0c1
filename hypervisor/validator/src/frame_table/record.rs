//! The record of a frame: its two words, and copies of them for reports.

use super::kind::{Kind, Purpose, State};
use super::word::{RefWord, TypeWord};
use crate::ids::DomId;
use crate::memtype::FrameMemType;
use crate::sync::{AtomicU64, Ordering};

/// What is known of one machine frame. Private: only the methods in this folder keep the
/// invariants.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct FrameEntry {
    pub(super) refs: AtomicU64,
    pub(super) types: AtomicU64,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<FrameEntry>() == 16);
    assert!(align_of::<FrameEntry>() == 16);
};

impl FrameEntry {
    /// A frame that isn't RAM, or that nobody may use yet: all bits zero.
    #[cfg(not(loom))]
    pub const fn new() -> FrameEntry {
        FrameEntry { refs: AtomicU64::new(0), types: AtomicU64::new(0) }
    }

    /// A frame that nobody may use yet.
    #[cfg(loom)]
    pub fn new() -> FrameEntry {
        FrameEntry { refs: AtomicU64::new(0), types: AtomicU64::new(0) }
    }

    /// The reference word as it is now.
    #[inline]
    pub(crate) fn ref_word(&self) -> RefWord {
        RefWord(self.refs.load(Ordering::Acquire))
    }

    /// All the type references that there can be, which no test has the time to take one by one.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn saturate_count(&self) {
        self.types.fetch_or(super::word::COUNT, Ordering::Relaxed);
    }

    /// The type word as it is now.
    #[inline]
    pub(crate) fn type_word(&self) -> TypeWord {
        TypeWord(self.types.load(Ordering::Acquire))
    }

    /// Both words, for reports; they may be of different moments.
    pub fn info(&self) -> FrameInfo {
        FrameInfo { refs: self.ref_word(), types: self.type_word() }
    }
}

impl Default for FrameEntry {
    fn default() -> FrameEntry {
        FrameEntry::new()
    }
}

/// A copy of a frame's words, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    refs: RefWord,
    types: TypeWord,
}

impl FrameInfo {
    /// Whether the frame is RAM that the validator manages.
    pub fn is_ram(&self) -> bool {
        self.refs.is_ram()
    }

    /// Who owns it (or may use it, for a shared frame); `None` if it is free or no RAM;
    /// [`DomId::HYPERVISOR`] for the hypervisor's own frames.
    pub fn owner(&self) -> Option<DomId> {
        self.refs.owner()
    }

    /// Whether it is the hypervisor's, shared with its owner.
    pub fn is_shared(&self) -> bool {
        self.refs.is_shared()
    }

    /// Whether another domain's tables map it, or did since it got its owner.
    pub fn is_foreign_mapped(&self) -> bool {
        self.refs.is_foreign_mapped()
    }

    /// How its mappings are cached, or were last: a frame is cached otherwise only when it is
    /// mapped again.
    pub fn memtype(&self) -> FrameMemType {
        self.refs.memtype()
    }

    /// General references: the allocation, read-only entries, and one for a type that isn't idle.
    pub fn references(&self) -> u64 {
        self.refs.count()
    }

    /// What it is, or was last, used as.
    pub fn kind(&self) -> Kind {
        self.types.kind()
    }

    /// Where its type stands.
    pub fn state(&self) -> State {
        self.types.state()
    }

    /// What the hypervisor uses it for, if it is the hypervisor's own.
    pub fn purpose(&self) -> Option<Purpose> {
        let own = self.refs.owner() == Some(DomId::HYPERVISOR);
        own.then(|| Purpose::ALL.get(self.types.count() as usize).copied()).flatten()
    }

    /// Type references.
    pub fn type_count(&self) -> u32 {
        self.types.count()
    }

    /// Whether its type has all the references that it can.
    pub(crate) fn is_full(&self) -> bool {
        self.types.is_full()
    }

    /// Whether it is pinned.
    pub fn is_pinned(&self) -> bool {
        self.types.is_pinned()
    }

    /// The type it is held as; `None` while idle.
    pub fn held_as(&self) -> Option<Kind> {
        (self.types.state() != State::Idle).then(|| self.types.kind())
    }

    /// Entries that hold references while the type is partial.
    pub fn resume(&self) -> Option<u16> {
        (self.types.state() == State::Partial).then(|| self.types.progress().resume)
    }
}
