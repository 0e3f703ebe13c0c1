//! The list of a grant call, and the status of each element.

use crate::diagnostics::report;
use crate::domain::vcpu::{Args, Vcpu};
use crate::domain::work::cost;
use crate::hypercall::outcome::{Outcome, create_continuation};
use crate::memory::guest::GuestPtr;
use pinfold_abi::errno::Errno;
use pinfold_abi::grant::*;
use pinfold_core::grant::mapping::MapError;
use pinfold_core::list::{ListProgress, OutOfAddressSpace};
use pinfold_validator::{Cause, Error, Mfn, Refusal};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Runs `one` for every element of a list, and writes the element back with its status.
///
/// The progress of a preempted call is in its arguments: the list begins later and is shorter.
pub(super) fn each<T: FromBytes + IntoBytes + Immutable>(
    vcpu: &mut Vcpu,
    args: &Args,
    count: u64,
    mut one: impl FnMut(&mut Vcpu, &mut T) -> Result<(), Preempted>,
) -> Outcome {
    let mut progress = ListProgress::plain(args[1], count, size_of::<T>() as u64);
    loop {
        let address = match progress.next_element() {
            Ok(Some((address, _))) => address,
            Ok(None) => return Outcome::Done(0),
            Err(OutOfAddressSpace) => return Outcome::Done(Errno::EFAULT.as_result()),
        };
        let rest = |vcpu: &mut Vcpu| {
            let (list, left) = progress.suspend_plainly();
            create_continuation(vcpu, [args[0], list, left, args[3], args[4]])
        };
        if progress.done() != 0 && (vcpu.slot().reports.is_any() || vcpu.work.is_time_up()) {
            return rest(vcpu);
        }
        vcpu.work.charge(cost::GRANT);
        let pointer = GuestPtr::<T>::new(address);
        let mut element = match pointer.read() {
            Ok(element) => element,
            Err(errno) => return Outcome::Done(errno.as_result()),
        };
        if let Err(Preempted) = one(vcpu, &mut element) {
            return rest(vcpu);
        }
        if let Err(errno) = pointer.write(&element) {
            return Outcome::Done(errno.as_result());
        }
        progress.advance();
    }
}

/// The call was preempted before anything was done for the element.
pub(super) struct Preempted;

/// The status of an element.
pub(super) fn status(vcpu: &Vcpu, result: Result<(), MapError>) -> Result<i16, Preempted> {
    match result {
        Ok(()) => Ok(Status::Okay as i16),
        Err(MapError::Status(status)) => Ok(status as i16),
        Err(MapError::Refused(refusal, frame)) => {
            report::stopped(vcpu, &Error::Refused(refusal));
            Ok(refused_status(&refusal, frame) as i16)
        }
        Err(MapError::Preempted) => Err(Preempted),
    }
}

/// The status for a refusal to map or unmap a granted frame.
fn refused_status(refusal: &Refusal, frame: Mfn) -> Status {
    let not_had = matches!(
        refusal.cause,
        Cause::NoSuchFrame | Cause::ReservedBits(_) | Cause::NotOwned | Cause::SharedFrame
    );
    if not_had && refusal.frame == frame { Status::BadPage } else { Status::GeneralError }
}
