//! Continuations of list calls (mmu_update, mmuext_op) that are preempted.
//!
//! Progress is kept in the guest's argument registers: the list's address advances, the count
//! goes down and carries flags ([`pinfold_core::list`]), and the number of elements done is in the guest's own
//! `done` word. All of it is checked again on restart; a guest that changes it only harms itself.

use super::outcome::{Outcome, create_continuation};
use crate::domain::element_stop::ElementStop;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::{ENTRIES, ENTRIES_PER_TIME_CHECK};
use crate::memory::guest::GuestPtr;
use pinfold_abi::errno::Errno;
pub use pinfold_core::list::Attempt;
use pinfold_core::list::{ListProgress, OutOfAddressSpace};
use pinfold_validator::Budget;

/// The outcome of a call that is no list: its result, or a restart with the same arguments.
pub fn end_or_restart(vcpu: &mut Vcpu, args: &Args, result: Result<(), ElementStop>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done(0),
        Err(ElementStop::Errno(errno)) => Outcome::Done(errno.as_result()),
        Err(ElementStop::Preempted | ElementStop::Upcall) => create_continuation(vcpu, *args),
    }
}

/// Elements between two checks of the time, if they are short.
pub const SHORT_ELEMENTS: u64 = 64;

/// Runs a list call `(list, count, done*, foreigndom)`: `element` gets the address of each element
/// of `size` bytes, which try it is, and what is left of the budget that the elements share.
pub fn run_list(
    vcpu: &mut Vcpu,
    args: &Args,
    size: u64,
    mut element: impl FnMut(&mut Vcpu, u64, Attempt, &mut Budget) -> Result<(), ElementStop>,
) -> Outcome {
    let [list, count, done_ptr, foreign, last] = *args;
    let done_ptr = GuestPtr::<u32>::new(done_ptr);
    let mut progress = ListProgress::with_marks(list, count, size);
    let mut before = 0;
    if progress.is_resumed() && !done_ptr.is_null() {
        before = match done_ptr.read() {
            Ok(done) => done,
            Err(errno) => return Outcome::Done(errno.as_result()),
        };
    }
    let mut suspended = None;
    let mut budget = Budget::new(ENTRIES);
    let result = loop {
        let (address, attempt) = match progress.next_element() {
            Ok(Some(element)) => element,
            Ok(None) => break Ok(()),
            Err(OutOfAddressSpace) => break Err(Errno::EFAULT),
        };
        let much = budget.left() <= (ENTRIES - ENTRIES_PER_TIME_CHECK) as usize;
        if much || progress.done() % SHORT_ELEMENTS == SHORT_ELEMENTS - 1 {
            if vcpu.work.check_time() && progress.done() != 0 {
                suspended = Some(Outcome::Restart);
                break Ok(());
            }
            budget = Budget::new(ENTRIES);
        }
        match element(vcpu, address, attempt, &mut budget) {
            Ok(()) => progress.advance(),
            Err(ElementStop::Errno(errno)) => break Err(errno),
            Err(ElementStop::Preempted) => {
                suspended = Some(Outcome::Restart);
                break Ok(());
            }
            Err(ElementStop::Upcall) => {
                suspended = Some(Outcome::Upcall);
                break Ok(());
            }
        }
    };
    // The cost of short elements matters in a multicall only, which counts them.
    vcpu.work.charge_if_long(&budget);
    if !done_ptr.is_null() {
        let done = before.wrapping_add(progress.done() as u32);
        // If the word can't be written, only the guest loses; but then progress can't be kept in it.
        if done_ptr.write(&done).is_err() && suspended.is_some() {
            return Outcome::Done(Errno::EFAULT.as_result());
        }
    }
    if let Some(suspended) = suspended {
        let rest = progress.suspend_with_marks(suspended == Outcome::Upcall);
        let Some((list, count)) = rest else {
            return Outcome::Done(Errno::EINVAL.as_result());
        };
        vcpu.resume = [list, count, args[2], foreign, last];
        return suspended;
    }
    result.into()
}
