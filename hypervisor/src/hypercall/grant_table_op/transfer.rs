//! Giving a frame to another domain for good.

use super::Preempted;
use crate::domain::DomainRef;
use crate::domain::vcpu::Vcpu;
use crate::grant;
use crate::memory::{m2p, validator};
use core::sync::atomic::Ordering;
use pinfold_abi::grant::{Status, Transfer};
use pinfold_validator::Mfn;

/// Gives one frame away, if nothing refers to it and the other domain's entry accepts it.
pub(super) fn transfer(vcpu: &mut Vcpu, asked: &mut Transfer) -> Result<(), Preempted> {
    asked.status = match transfer_now(&vcpu.domain, asked) {
        Ok(()) => Status::Okay as i16,
        Err(status) => status as i16,
    };
    Ok(())
}

fn transfer_now(from: &DomainRef, asked: &Transfer) -> Result<(), Status> {
    let frame = Mfn::new(asked.mfn);
    let to = grant::named(from, asked.domid).ok_or(Status::BadDomain)?;
    // Relaxed: the count is a limit, it guards no data.
    let room =
        |pages: u64| pages.checked_add(1).filter(|&sum| sum <= to.max_pages || to.id == from.id);
    to.pages
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
        .map_err(|_| Status::GeneralError)?;
    let pfn = m2p::get(frame);
    let passed = to.grants.transfer(asked.reference, from.id, || {
        validator().release(frame, from.id).map_err(|_| Status::BadPage)?;
        m2p::set(frame, None);
        // Free in the frame table, but not on the list of free frames: nobody else can take it.
        // What the old owner's processors remember of it is flushed here.
        validator().assign(frame, to.id).map_err(|refusal| {
            debug_assert!(false, "{refusal}");
            Status::BadPage
        })?;
        Ok(frame)
    });
    match passed {
        Ok(()) => {
            from.pages.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
        Err(status) => {
            to.pages.fetch_sub(1, Ordering::Relaxed);
            if validator().owner(frame) == Some(from.id) {
                m2p::set(frame, pfn);
            }
            Err(status)
        }
    }
}
