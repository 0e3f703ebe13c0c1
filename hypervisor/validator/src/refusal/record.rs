//! A refused operation, with its evidence.

use super::cause::Cause;
use super::operation::Operation;
use crate::addr::{Index, Level, Mfn};
use crate::entry::Entry;
use crate::frame_table::{FrameInfo, Kind};
use crate::ids::DomId;
use pinfold_abi::errno::Errno;

/// The entry at which validation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLocation {
    /// Level of the table that holds it; `None` for a descriptor page or an untyped frame.
    pub level: Option<Level>,
    /// The table.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The entry, as the guest wants it.
    pub entry: Entry,
}

/// A refused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub operation: Operation,
    /// For whom.
    pub dom: DomId,
    /// Why not.
    pub cause: Cause,
    /// The frame in the way.
    pub frame: Mfn,
    /// What it was to be used as; `None` for a plain reference.
    pub wanted: Option<Kind>,
    /// What it was at that moment; `None` if there is no such frame.
    pub seen: Option<FrameInfo>,
    /// The entry that asked for it, if one did.
    pub location: Option<EntryLocation>,
}

impl Refusal {
    /// The ABI's error number.
    ///
    /// As Xen 4.17 answers, by measurement (`docs/abi-answers.md`): -EINVAL, but for a leaf that
    /// names no frame (-EPERM) or one that it can't have (-EBUSY). A pin that fails because of a
    /// leaf somewhere below gives the leaf's number.
    pub const fn errno(&self) -> Errno {
        let at_leaf = self.wants_a_leaf();
        match self.cause {
            Cause::NoSuchFrame | Cause::ReservedBits(_) if at_leaf => Errno::EPERM,
            Cause::NotOwned | Cause::TableInUse if at_leaf => Errno::EBUSY,
            Cause::Busy => Errno::EBUSY,
            Cause::ForeignMapping => Errno::EPERM,
            Cause::NoSuchFrame
            | Cause::NotOwned
            | Cause::NotFree
            | Cause::SharedFrame
            | Cause::WrongType
            | Cause::WritableAlias
            | Cause::TableInUse
            | Cause::CacheAlias { .. }
            | Cause::ReservedSlot
            | Cause::ReservedBits(_)
            | Cause::ForbiddenFlags(_)
            | Cause::SuperPage
            | Cause::LinearNotAllowed
            | Cause::AbsentNamesMemory
            | Cause::AlreadyPinned
            | Cause::NotPinned
            | Cause::CountOverflow
            | Cause::BadDescriptor(_)
            | Cause::NotATable
            | Cause::BadAddress(_)
            | Cause::BadSlot(_) => Errno::EINVAL,
        }
    }

    /// Whether an L1 entry asked for it.
    pub(super) const fn wants_a_leaf(&self) -> bool {
        matches!(self.location, Some(EntryLocation { level: Some(Level::L1), .. }))
    }

    /// Whether a writable mapping is in the way: worth a search for it
    /// ([`Validator::find_mappings`](crate::Validator::find_mappings) of [`Refusal::frame`]).
    pub const fn is_alias(&self) -> bool {
        matches!(self.cause, Cause::WritableAlias)
    }

    /// Whether mappings that are cached otherwise are in the way: worth a search for all of them.
    pub const fn is_cache_alias(&self) -> bool {
        matches!(self.cause, Cause::CacheAlias { .. })
    }
}
