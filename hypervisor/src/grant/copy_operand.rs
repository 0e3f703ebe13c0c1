//! Holding a frame for a copy: one's own, or one that was granted.

use super::resolve_domid;
use crate::domain::DomainRef;
use crate::memory::frame_refs::{FrameRef, Readable, RefType, Writable};
use pinfold_abi::domid;
use pinfold_abi::grant::{CopyPointer, Status};
use pinfold_validator::{Cause, DomId, Mfn, Refusal};

/// Why a frame can't be held for a copy.
pub enum NotHeld {
    /// It can't be.
    Status(Status),
    /// Others are at it: not now.
    Busy(Refusal),
}

impl From<Status> for NotHeld {
    fn from(status: Status) -> NotHeld {
        NotHeld::Status(status)
    }
}

/// What a copy does with a frame.
pub trait CopyAccess: RefType {
    /// Whether it writes to it.
    const WRITES: bool;
}

impl CopyAccess for Readable {
    const WRITES: bool = false;
}

impl CopyAccess for Writable {
    const WRITES: bool = true;
}

/// A frame that is held for a copy, until it is dropped.
pub struct CopyOperand<K: CopyAccess> {
    /// The frame.
    pub frame: FrameRef<K>,
    /// Released after the frame.
    _grant: Option<GrantUse>,
}

/// The use of a grant entry by a copy, until it is dropped.
struct GrantUse {
    owner: DomainRef,
    reference: u32,
    writes: bool,
}

impl Drop for GrantUse {
    fn drop(&mut self) {
        self.owner.grants.end_copy(self.reference, self.writes);
    }
}

impl<K: CopyAccess> CopyOperand<K> {
    /// Holds the frame that a pointer of the caller's names.
    ///
    /// # Errors
    /// As the ABI has them.
    pub fn hold(
        caller: &DomainRef,
        pointer: &CopyPointer,
        by_reference: bool,
    ) -> Result<CopyOperand<K>, NotHeld> {
        // Before it is looked up: whether there is such a domain is not the caller's business.
        if !by_reference && pointer.domid != domid::SELF {
            return Err(Status::PermissionDenied.into());
        }
        let owner = resolve_domid(caller, pointer.domid).ok_or(Status::BadDomain)?;
        if !by_reference {
            let frame = hold_frame(owner.id, Mfn::new(pointer.frame))?;
            return Ok(CopyOperand { frame, _grant: None });
        }
        // A reference is the low half of the field.
        let reference = pointer.frame as u32;
        let mfn = owner.grants.begin_copy(reference, caller.id, K::WRITES)?;
        let id = owner.id;
        let grant = GrantUse { owner, reference, writes: K::WRITES };
        Ok(CopyOperand { frame: hold_frame(id, mfn)?, _grant: Some(grant) })
    }
}

fn hold_frame<K: RefType>(owner: DomId, mfn: Mfn) -> Result<FrameRef<K>, NotHeld> {
    FrameRef::get(owner, mfn).map_err(|refusal| match refusal.cause {
        Cause::Busy => NotHeld::Busy(refusal),
        Cause::TableInUse => NotHeld::Status(Status::GeneralError),
        _ => NotHeld::Status(Status::BadPage),
    })
}
