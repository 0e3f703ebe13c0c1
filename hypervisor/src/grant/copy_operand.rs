//! Holding a frame for a copy: one's own, or one that was granted.

use super::resolve_domid;
use crate::domain::DomainRef;
use crate::memory::frame_refs::{get_readable_ref, get_writable_ref};
use crate::memory::validator;
use pinfold_abi::domid;
use pinfold_abi::grant::{CopyPointer, Status};
use pinfold_validator::{Cause, Mfn, Refusal};

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

/// A frame that is held for a copy, until it is dropped.
pub struct CopyOperand {
    owner: DomainRef,
    /// The frame.
    pub frame: Mfn,
    write: bool,
    /// The entry whose use this is.
    reference: Option<u32>,
}

impl CopyOperand {
    /// Holds the frame that a pointer of the caller's names, for reading or writing.
    ///
    /// # Errors
    /// As the ABI has them.
    pub fn hold(
        caller: &DomainRef,
        pointer: &CopyPointer,
        by_reference: bool,
        write: bool,
    ) -> Result<CopyOperand, NotHeld> {
        // Before it is looked up: whether there is such a domain is not the caller's business.
        if !by_reference && pointer.domid != domid::SELF {
            return Err(Status::PermissionDenied.into());
        }
        let owner = resolve_domid(caller, pointer.domid).ok_or(Status::BadDomain)?;
        if !by_reference {
            let frame = Mfn::new(pointer.frame);
            take(&owner, frame, write)?;
            return Ok(CopyOperand { owner, frame, write, reference: None });
        }
        // A reference is the low half of the field.
        let reference = pointer.frame as u32;
        let frame = owner.grants.begin_copy(reference, caller.id, write)?;
        if let Err(why) = take(&owner, frame, write) {
            owner.grants.end_copy(reference, write);
            return Err(why);
        }
        Ok(CopyOperand { owner, frame, write, reference: Some(reference) })
    }
}

fn take(owner: &DomainRef, frame: Mfn, write: bool) -> Result<(), NotHeld> {
    let taken =
        if write { get_writable_ref(owner.id, frame) } else { get_readable_ref(owner.id, frame) };
    taken.map_err(|refusal| match refusal.cause {
        Cause::Busy => NotHeld::Busy(refusal),
        Cause::TableInUse => NotHeld::Status(Status::GeneralError),
        _ => NotHeld::Status(Status::BadPage),
    })
}

impl Drop for CopyOperand {
    fn drop(&mut self) {
        if self.write {
            validator().put_writable_ref(self.owner.id, self.frame);
        } else {
            validator().put_readable_ref(self.owner.id, self.frame);
        }
        if let Some(reference) = self.reference {
            self.owner.grants.end_copy(reference, self.write);
        }
    }
}
