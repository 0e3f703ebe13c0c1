//! Holding a frame for a copy: one's own, or one that was granted.

use super::named;
use crate::domain::DomainRef;
use crate::memory::holding::{hold_writable, patiently};
use crate::memory::validator;
use pinfold_abi::domid;
use pinfold_abi::grant::{CopyPointer, Status};
use pinfold_validator::{Cause, Mfn};

/// A frame that is held for a copy, until it is dropped.
pub struct Side {
    owner: DomainRef,
    /// The frame.
    pub frame: Mfn,
    write: bool,
    /// The entry whose use this is.
    reference: Option<u32>,
}

impl Side {
    /// Holds the frame that a pointer of the caller's names, for reading or writing.
    ///
    /// # Errors
    /// As the ABI has them.
    pub fn hold(
        caller: &DomainRef,
        pointer: &CopyPointer,
        by_reference: bool,
        write: bool,
    ) -> Result<Side, Status> {
        // Before it is looked up: whether there is such a domain is not the caller's business.
        if !by_reference && pointer.domid != domid::SELF {
            return Err(Status::PermissionDenied);
        }
        let owner = named(caller, pointer.domid).ok_or(Status::BadDomain)?;
        if !by_reference {
            let frame = Mfn::new(pointer.frame);
            take(&owner, frame, write)?;
            return Ok(Side { owner, frame, write, reference: None });
        }
        // A reference is the low half of the field.
        let reference = pointer.frame as u32;
        let frame = owner.grants.begin_copy(reference, caller.id, write)?;
        if let Err(status) = take(&owner, frame, write) {
            owner.grants.end_copy(reference, write);
            return Err(status);
        }
        Ok(Side { owner, frame, write, reference: Some(reference) })
    }
}

fn take(owner: &DomainRef, frame: Mfn, write: bool) -> Result<(), Status> {
    let taken = if write {
        hold_writable(owner.id, frame)
    } else {
        patiently(|| validator().take_readable(owner.id, frame))
    };
    taken.map_err(|refusal| match refusal.cause {
        Cause::TableInUse => Status::GeneralError,
        _ => Status::BadPage,
    })
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.write {
            validator().drop_writable(self.owner.id, self.frame);
        } else {
            validator().drop_readable(self.owner.id, self.frame);
        }
        if let Some(reference) = self.reference {
            self.owner.grants.end_copy(reference, self.write);
        }
    }
}
