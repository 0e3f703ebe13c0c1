//! The record of a frame: its two words, and copies of them for reports.

use super::kind::{Kind, Purpose, State};
use super::word::{RefWord, TypeWord};
use crate::ids::DomId;
use crate::memtype::FrameMemType;
use crate::sync::{AtomicU64, Ordering};

/// The record of one machine frame. The words are private to this folder, whose methods keep the
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

    /// Fills the count of type references: taking them one by one takes too long for a test.
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

    /// The owner, or for a shared frame the domain that may map it. `None` if it is free or no RAM;
    /// [`DomId::HYPERVISOR`] for the hypervisor's own frames.
    pub fn owner(&self) -> Option<DomId> {
        self.refs.owner()
    }

    /// Whether it is the hypervisor's, shared with its owner.
    pub fn is_shared(&self) -> bool {
        self.refs.is_shared()
    }

    /// Whether another domain's tables map it, or have since it got its owner (`INV-FOREIGN`).
    pub fn is_foreign_mapped(&self) -> bool {
        self.refs.is_foreign_mapped()
    }

    /// Memory type of its mappings. A frame that is not mapped keeps that of its last ones.
    pub fn memtype(&self) -> FrameMemType {
        self.refs.memtype()
    }

    /// General references: the allocation, read-only entries, and one for a type that isn't idle.
    pub fn references(&self) -> u64 {
        self.refs.count()
    }

    /// What it is used as; what it was last used as, while idle.
    pub fn kind(&self) -> Kind {
        self.types.kind()
    }

    /// State of its type.
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

    /// Whether its count of type references is full.
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

    /// How many entries, from the first on, hold references; `None` unless partial.
    pub fn resume(&self) -> Option<u16> {
        (self.types.state() == State::Partial).then(|| self.types.progress().resume)
    }
}
