//! Alias upcalls: before a pin is refused, the guest gets the list of the mappings in the way and a
//! chance to remove them.
//!
//! The pin is restarted like a preempted call: its progress is in the argument registers, with a
//! flag that the upcall was delivered ([`super::continuation`]). A frame on the guest's stack enters
//! its handler, whose `iret` executes the call again. With the flag set, the same pin is refused for
//! good, except if it fails at another of its tables: then there is another upcall, up to
//! [`MAX_UPCALLS_PER_PIN`](crate::domain::alias_upcall::MAX_UPCALLS_PER_PIN).
//!
//! A pin inside the handler gets no upcall: [`Upcall::told`] is cleared by the next try of the
//! restarted pin, and a guest that never tries it again gets no further upcalls. A guest that forges
//! the flag only loses upcalls: a flagged pin without a pending upcall is refused like any other.

use super::continuation::Attempt;
use crate::arch::{apic, ipi};
use crate::console::log::write_record;
use crate::diagnostics::listing;
use crate::diagnostics::report;
use crate::domain::alias_upcall::{PendingUpcall, Searching, Upcall, UpcallBuffer};
use crate::domain::bounce::{self, ClearDirection};
use crate::domain::container;
use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Handler, Vcpu};
use crate::memory::guest::{GuestPtr, is_guest_address, is_guest_range};
use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{BAD_HANDLER, BAD_ROOM};
use pinfold_abi::pinfold::{self, AliasUpcall, AliasesFound, MAX_UPCALL_MAPPINGS};
use pinfold_abi::record::Healed;
use pinfold_validator::{Mfn, Refusal};

/// `pinfold_op` `alias_upcall`.
///
/// # Errors
/// EINVAL if an address is not the guest's, or the room is 0 or above the maximum.
pub fn register(vcpu: &mut Vcpu, argument: u64) -> Result<(), Errno> {
    let asked = GuestPtr::<AliasUpcall>::new(argument).read()?;
    let mut upcall = Upcall::default();
    if asked.address != 0 {
        let bytes = size_of::<AliasesFound>() as u64
            + u64::from(asked.room) * size_of::<pinfold::Mapping>() as u64;
        let room = 1..=MAX_UPCALL_MAPPINGS;
        if !room.contains(&asked.room) {
            return Err(BAD_ROOM.into());
        }
        if !is_guest_address(asked.address) || !is_guest_range(asked.buffer, bytes) {
            return Err(BAD_HANDLER.into());
        }
        upcall.asked = Some(asked);
    }
    vcpu.upcall = upcall;
    Ok(())
}

/// What happens to a refused pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PinRefusal {
    /// It stays refused.
    Stands,
    /// An upcall is delivered, and the pin restarted.
    Upcall,
    /// The search for the aliases was preempted: the pin is restarted, fails at the same frame, and
    /// the search continues.
    Preempted,
}

/// Reports a refused pin, and prepares an upcall if the guest registered one.
pub fn refused(vcpu: &mut Vcpu, pin: Mfn, attempt: Attempt, refusal: &Refusal) -> PinRefusal {
    let goes_on = vcpu.upcall.searching.take();
    let goes_on = goes_on.filter(|one| one.told.pin == pin && one.frame == refusal.frame);
    let mut searching = match goes_on {
        Some(searching) => searching,
        None => {
            let Some((asked, told)) = wanted(vcpu, pin, attempt, refusal) else {
                report::refused(vcpu, refusal);
                return PinRefusal::Stands;
            };
            let buffer = UpcallBuffer::new(&asked, refusal.frame);
            let (listing, id) = report::begin_refused(vcpu, refusal, asked.room);
            Searching { told, frame: refusal.frame, id, listing, buffer }
        }
    };
    let Searching { listing, buffer, .. } = &mut searching;
    let cut_short = loop {
        let step = listing::step(listing, &vcpu.domain, &mut |mapping| buffer.add(vcpu, mapping));
        match step {
            Some(cut_short) => break cut_short,
            None => {
                ipi::service_ipis();
                if apic::timer_is_pending() {
                    vcpu.upcall.searching = Some(searching);
                    return PinRefusal::Preempted;
                }
            }
        }
    };
    let Searching { mut told, id, buffer, .. } = searching;
    if !buffer.send(cut_short) {
        return PinRefusal::Stands;
    }
    // There is room: `wanted` checked it.
    told.met.push((refusal.frame, id));
    vcpu.upcall.next = Some(told);
    PinRefusal::Upcall
}

/// The registered handler and the pin's upcalls so far, if there is to be an upcall.
fn wanted(
    vcpu: &mut Vcpu,
    pin: Mfn,
    attempt: Attempt,
    refusal: &Refusal,
) -> Option<(AliasUpcall, PendingUpcall)> {
    let upcall = &mut vcpu.upcall;
    let told = match attempt {
        // Another pin, inside the handler.
        Attempt::First if upcall.told.is_some() => return None,
        Attempt::First => PendingUpcall { pin, met: ArrayVec::new() },
        // Whatever the result, the pin of the last upcall has been tried again.
        Attempt::Retry => upcall.told.take()?,
    };
    let asked = upcall.asked.filter(|_| refusal.is_alias())?;
    let got_further = told.met.last().is_none_or(|&(frame, _)| frame != refusal.frame);
    (told.pin == pin && got_further && !told.met.is_full()).then_some((asked, told))
}

/// A pin succeeded at the first try: the search of a preempted one is obsolete, unless an upcall was
/// for that very pin ([`pinned`]).
#[inline]
pub fn forget_search(vcpu: &mut Vcpu, attempt: Attempt) {
    if attempt == Attempt::First && vcpu.upcall.searching.is_some() {
        vcpu.upcall.searching = None;
    }
}

/// A restarted pin succeeded: the aliases that it met are gone.
pub fn pinned(vcpu: &mut Vcpu, pin: Mfn) {
    let upcall = &mut vcpu.upcall;
    let told = upcall.told.take().or(upcall.searching.take().map(|one| one.told));
    let Some(told) = told.filter(|told| told.pin == pin) else { return };
    vcpu.domain.stats.healed.bump();
    for (frame, id) in told.met {
        // Without a report there is nothing in the log to refer to.
        if let Some(id) = id.filter(|_| vcpu.domain.log_limit.allows()) {
            let record = Healed { id, frame, pinned: pin, cleared_by: "upcall" };
            write_record(vcpu.who(), &record);
        }
    }
}

/// Enters the guest's handler, which returns to the restarted call.
///
/// # Errors
/// The guest's stack can't be written.
pub fn deliver(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let upcall = &mut vcpu.upcall;
    upcall.told = upcall.next.take();
    let address = upcall.asked.map_or(0, |asked| asked.address);
    vcpu.domain.stats.upcalls.bump();
    if vcpu.container.is_some() {
        return container::enter_handler(vcpu, address);
    }
    let handler = Handler { address, dpl: 0, masks_events: true };
    bounce::callback(vcpu, handler, ClearDirection::Yes)
}
