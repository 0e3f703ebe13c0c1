//! A refused operation, with its evidence.

use super::cause::Cause;
use super::operation::Operation;
use crate::addr::{Index, Level, Mfn};
use crate::entry::Entry;
use crate::frame_table::{FrameInfo, Kind};
use crate::ids::DomId;
use pinfold_abi::errno::Errno;

/// Where an entry is that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLocation {
    /// Level of the table that holds it; `None` for a descriptor page or an untyped frame.
    pub level: Option<Level>,
    /// The table.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The entry that was asked for.
    pub entry: Entry,
}

/// A refused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The operation.
    pub operation: Operation,
    /// The domain that it was for.
    pub dom: DomId,
    /// Why it was refused.
    pub cause: Cause,
    /// The frame that could not be used.
    pub frame: Mfn,
    /// What it was to be used as; `None` for a general reference.
    pub wanted: Option<Kind>,
    /// Its record at that moment; `None` if there is no such frame.
    pub seen: Option<FrameInfo>,
    /// The entry that named it, if one did.
    pub location: Option<EntryLocation>,
}

impl Refusal {
    /// The ABI's error number.
    ///
    /// As Xen 4.17 answers, measured (`docs/abi-answers.md`): -EINVAL, except for an L1 entry that names
    /// no frame (-EPERM) or one that it can't map (-EBUSY). A pin that fails because of an L1 entry
    /// somewhere below gives that entry's number.
    pub const fn errno(&self) -> Errno {
        let for_l1_entry = self.is_for_l1_entry();
        match self.cause {
            Cause::NoSuchFrame | Cause::ReservedBits(_) if for_l1_entry => Errno::EPERM,
            Cause::NotOwned | Cause::TableInUse if for_l1_entry => Errno::EBUSY,
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

    /// Whether an L1 entry named the frame.
    pub(super) const fn is_for_l1_entry(&self) -> bool {
        matches!(self.location, Some(EntryLocation { level: Some(Level::L1), .. }))
    }

    /// Whether a writable mapping is the reason: [`Validator::search`](crate::Validator::search) finds
    /// it.
    pub const fn is_alias(&self) -> bool {
        matches!(self.cause, Cause::WritableAlias)
    }

    /// Whether mappings with another memory type are the reason.
    pub const fn is_cache_alias(&self) -> bool {
        matches!(self.cause, Cause::CacheAlias { .. })
    }
}
