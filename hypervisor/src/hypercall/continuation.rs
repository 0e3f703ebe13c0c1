//! Suspending and resuming list calls (mmu_update, mmuext_op).
//!
//! Progress is kept in the guest's argument registers: the list's address moves on, the count goes
//! down and carries [`PREEMPTED`], and what was done so far stands in the guest's own `done` word.
//! Everything is checked anew on resumption; a guest that changes it fools only itself.

use super::{Args, Outcome, again};
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory::guest::GuestPtr;
use crate::memory::report;
use pinfold_abi::errno::Errno;
use pinfold_validator::{Refusal, Stop};

/// Bit of the count that says: resumed, `done` counts on.
const PREEMPTED: u64 = 1 << 31;
/// Bit of the count of a resumed list: the guest was told what its first element met.
const TOLD: u64 = 1 << 30;

/// Whether an element is tried for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// It is.
    First,
    /// The guest was told what it met, or says so.
    Again,
}

/// Why an element ended the list.
pub enum ElementStop {
    /// With an error of the ABI.
    Errno(Errno),
    /// Its time is up in the middle; the same element goes on next time.
    Preempted,
    /// The guest is to be told what it met; the same element is tried again after that.
    Told,
}

impl From<Errno> for ElementStop {
    fn from(errno: Errno) -> ElementStop {
        ElementStop::Errno(errno)
    }
}

impl From<Refusal> for ElementStop {
    fn from(refusal: Refusal) -> ElementStop {
        ElementStop::Errno(refusal.errno())
    }
}

impl From<Stop> for ElementStop {
    fn from(stop: Stop) -> ElementStop {
        match stop {
            Stop::Refused(refusal) => refusal.into(),
            Stop::Preempted => ElementStop::Preempted,
        }
    }
}

impl ElementStop {
    /// What a refused element comes to: it is tried again, if all that is in the way is that others
    /// are at the frame; else the refusal is reported.
    pub fn refused(vcpu: &Vcpu, refusal: &Refusal) -> ElementStop {
        if vcpu.work.may_retry(refusal) {
            return ElementStop::Preempted;
        }
        report::refused(vcpu, refusal);
        (*refusal).into()
    }
}

/// Ends a call that is no list: with its result, or suspended, to be made again as it is.
pub fn end_or_restart(vcpu: &mut Vcpu, args: &Args, result: Result<(), ElementStop>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done(0),
        Err(ElementStop::Errno(errno)) => Outcome::Done(errno.as_result()),
        Err(ElementStop::Preempted | ElementStop::Told) => again(vcpu, *args),
    }
}

/// Runs a list call `(list, count, done*, foreigndom)`: `element` gets the address of each element
/// of `size` bytes, and which try it is.
pub fn run_list(
    vcpu: &mut Vcpu,
    args: &Args,
    size: u64,
    mut element: impl FnMut(&mut Vcpu, u64, Try) -> Result<(), ElementStop>,
) -> Outcome {
    let [list, count, done_ptr, foreign, last] = *args;
    let done_ptr = GuestPtr::<u32>::new(done_ptr);
    // The count is an unsigned int of the ABI.
    let (mut count, resumed) = (count & 0xffff_ffff & !PREEMPTED, count & PREEMPTED != 0);
    // Only a resumed list has the other mark: in the count of a new one the bit is just a bit.
    let told = resumed && count & TOLD != 0;
    if told {
        count &= !TOLD;
    }
    let mut before = 0;
    if resumed && !done_ptr.is_null() {
        before = match done_ptr.read() {
            Ok(done) => done,
            Err(errno) => return Outcome::Done(errno.as_result()),
        };
    }
    let mut index = 0;
    let mut result = Ok(());
    let mut suspended = None;
    while index < count {
        if index != 0 && vcpu.work.is_time_up() {
            suspended = Some(Outcome::Again);
            break;
        }
        let address = match index.checked_mul(size).and_then(|offset| list.checked_add(offset)) {
            Some(address) => address,
            None => {
                result = Err(Errno::EFAULT);
                break;
            }
        };
        vcpu.work.charge(cost::ELEMENT);
        let attempt = if told && index == 0 { Try::Again } else { Try::First };
        match element(vcpu, address, attempt) {
            Ok(()) => index += 1,
            Err(ElementStop::Errno(errno)) => {
                result = Err(errno);
                break;
            }
            Err(ElementStop::Preempted) => {
                suspended = Some(Outcome::Again);
                break;
            }
            Err(ElementStop::Told) => {
                suspended = Some(Outcome::Upcall);
                break;
            }
        }
    }
    if !done_ptr.is_null() {
        let done = before.wrapping_add(index as u32);
        // A word that can't be written is the guest's loss; but progress can't be kept there.
        if done_ptr.write(&done).is_err() && suspended.is_some() {
            return Outcome::Done(Errno::EFAULT.as_result());
        }
    }
    if let Some(suspended) = suspended {
        // A try that ran out of time is still that try.
        let told = suspended == Outcome::Upcall || told && index == 0;
        let marks = if told { PREEMPTED | TOLD } else { PREEMPTED };
        let rest = (count - index) | marks;
        // The list may end where the address space does, so its end may be 0.
        let next = list.wrapping_add(index * size);
        vcpu.resume = [next, rest, args[2], foreign, last];
        return suspended;
    }
    result.into()
}
