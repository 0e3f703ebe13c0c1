//! Transfers a frame to another domain.

use super::elements::Preempted;
use crate::domain::DomainRef;
use crate::domain::vcpu::Vcpu;
use crate::grant;
use crate::memory::validator;
use core::sync::atomic::Ordering;
use pinfold_abi::grant::{Status, Transfer};
use pinfold_validator::Mfn;

/// Transfers one frame, if it has no references and an entry of the other domain accepts it.
pub(super) fn transfer(vcpu: &mut Vcpu, asked: &mut Transfer) -> Result<(), Preempted> {
    asked.status = match transfer_now(&vcpu.domain, asked) {
        Ok(()) => Status::Okay as i16,
        Err(status) => status as i16,
    };
    Ok(())
}

fn transfer_now(from: &DomainRef, asked: &Transfer) -> Result<(), Status> {
    let frame = Mfn::new(asked.mfn);
    let to = grant::resolve_domid(from, asked.domid).ok_or(Status::BadDomain)?;
    // Relaxed: the count is only a limit, and orders nothing.
    let room =
        |pages: u64| pages.checked_add(1).filter(|&sum| sum <= to.max_pages || to.id == from.id);
    to.pages
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
        .map_err(|_| Status::GeneralError)?;
    let passed = to.grants.transfer(asked.reference, from.id, || {
        // It is never free in between, so nobody else can allocate it. Its contents stay.
        validator().transfer(frame, from.id, to.id).map_err(|_| Status::BadPage)?;
        Ok(frame)
    });
    match passed {
        Ok(()) => {
            from.pages.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
        Err(status) => {
            to.pages.fetch_sub(1, Ordering::Relaxed);
            Err(status)
        }
    }
}
