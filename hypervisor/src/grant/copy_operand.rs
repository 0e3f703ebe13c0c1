//! An operand of a grant copy: a frame of the caller's, or one granted to it.

use super::resolve_domid;
use crate::domain::DomainRef;
use crate::memory::frame_refs::{FrameRef, Readable, RefType, Writable};
use pinfold_abi::domid;
use pinfold_abi::grant::{CopyPointer, Status};
use pinfold_validator::{Cause, DomId, Mfn, Refusal};

/// Why no reference on an operand could be taken.
pub enum NotHeld {
    /// For good, with this status.
    Status(Status),
    /// The frame is busy.
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

/// An operand: the frame and the grant are held until it is dropped.
pub struct CopyOperand<K: CopyAccess> {
    /// The frame.
    pub frame: FrameRef<K>,
    /// Released after the frame.
    _grant: Option<GrantUse>,
}

/// A grant entry in use by a copy, until it is dropped.
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
    /// Takes references on the operand that a pointer of the caller's names.
    ///
    /// # Errors
    /// As the ABI has them.
    pub fn hold(
        caller: &DomainRef,
        pointer: &CopyPointer,
        by_reference: bool,
    ) -> Result<CopyOperand<K>, NotHeld> {
        // Checked before the lookup, so that the caller doesn't learn whether the domain exists.
        if !by_reference && pointer.domid != domid::SELF {
            return Err(Status::PermissionDenied.into());
        }
        let owner = resolve_domid(caller, pointer.domid).ok_or(Status::BadDomain)?;
        if !by_reference {
            let frame = hold_frame(owner.id, Mfn::new(pointer.frame))?;
            return Ok(CopyOperand { frame, _grant: None });
        }
        // The grant reference is the low half of the field.
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
