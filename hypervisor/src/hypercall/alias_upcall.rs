//! Telling a guest of the mappings that a pin met, before the pin is refused.
//!
//! The pin is suspended like a call whose time is up: its progress is in the argument registers,
//! with a mark that says "told" ([`super::continuation`]). A frame on the guest's stack leads to its
//! handler, whose `iret` executes the call again. With the mark, the same pin is tried for the last
//! time, but for one case: what it meets now is in the way of another of its tables. Then the guest
//! is told again, [`MAX_UPCALLS_PER_PIN`] times in all.
//!
//! Nothing here goes on for longer than that. A pin in the handler is not told of: what stands in
//! [`Upcall::told`] ends with the suspended pin's next try, and a guest that never tries again hears
//! of no other. The mark is the guest's to forge, which costs it its upcalls: a marked pin of which
//! nothing is known is refused like any other.

use super::continuation::Attempt;
use crate::arch::{apic, ipi};
use crate::console::log::write_record;
use crate::diagnostics::listing;
use crate::diagnostics::report;
use crate::domain::alias_upcall::{PendingUpcall, Searching, Upcall, UpcallBuffer};
use crate::domain::bounce::{self, ClearDirection};
use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Handler, Vcpu};
use crate::memory::guest::{GuestPtr, is_guest_address, is_guest_range};
use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{self, AliasUpcall, AliasesFound, MAX_UPCALL_MAPPINGS};
use pinfold_abi::record::Healed;
use pinfold_validator::{Mfn, Refusal};

/// `pinfold_op` `alias_upcall`.
///
/// # Errors
/// EINVAL if an address is not the guest's or the room is none, or too much.
pub fn register(vcpu: &mut Vcpu, argument: u64) -> Result<(), Errno> {
    let asked = GuestPtr::<AliasUpcall>::new(argument).read()?;
    let mut upcall = Upcall::default();
    if asked.address != 0 {
        let bytes = size_of::<AliasesFound>() as u64
            + u64::from(asked.room) * size_of::<pinfold::Mapping>() as u64;
        let room = 1..=MAX_UPCALL_MAPPINGS;
        if !is_guest_address(asked.address)
            || !room.contains(&asked.room)
            || !is_guest_range(asked.buffer, bytes)
        {
            return Err(Errno::EINVAL);
        }
        upcall.asked = Some(asked);
    }
    vcpu.upcall = upcall;
    Ok(())
}

/// What a refused pin comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PinRefusal {
    /// It is refused.
    Stands,
    /// The guest is told of the aliases that it met, and the pin tried again.
    Upcall,
    /// The aliases are still being searched for: the pin is tried again, meets the same, and the
    /// search goes on.
    Preempted,
}

/// A pin was refused, which is reported; perhaps the guest is told of the aliases that it met.
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
    // There is room: it was looked for.
    told.met.push((refusal.frame, id));
    vcpu.upcall.next = Some(told);
    PinRefusal::Upcall
}

/// Whether the guest is to be told, where, and what it was told of this pin until now.
fn wanted(
    vcpu: &mut Vcpu,
    pin: Mfn,
    attempt: Attempt,
    refusal: &Refusal,
) -> Option<(AliasUpcall, PendingUpcall)> {
    let upcall = &mut vcpu.upcall;
    let told = match attempt {
        // Another pin, in the handler.
        Attempt::First if upcall.told.is_some() => return None,
        Attempt::First => PendingUpcall { pin, met: ArrayVec::new() },
        // Whatever comes of it, the pin that the guest was told of has been tried again.
        Attempt::Retry => upcall.told.take()?,
    };
    let asked = upcall.asked.filter(|_| refusal.is_alias())?;
    let got_further = told.met.last().is_none_or(|&(frame, _)| frame != refusal.frame);
    (told.pin == pin && got_further && !told.met.is_full()).then_some((asked, told))
}

/// A pin went through: what a suspended one looked for is of no interest any more, unless the guest
/// was told of that very pin ([`pinned`]).
#[inline]
pub fn forget_search(vcpu: &mut Vcpu, attempt: Attempt) {
    if attempt == Attempt::First && vcpu.upcall.searching.is_some() {
        vcpu.upcall.searching = None;
    }
}

/// A pin went through that had been tried before: what it had met is gone.
pub fn pinned(vcpu: &mut Vcpu, pin: Mfn) {
    let upcall = &mut vcpu.upcall;
    let told = upcall.told.take().or(upcall.searching.take().map(|one| one.told));
    let Some(told) = told.filter(|told| told.pin == pin) else { return };
    vcpu.domain.stats.healed.bump();
    for (frame, id) in told.met {
        // Without a report there is nothing to heal in the log.
        if let Some(id) = id.filter(|_| vcpu.domain.log_limit.allows()) {
            let record = Healed { id, frame, pinned: pin, cleared_by: "upcall" };
            write_record(vcpu.who(), &record);
        }
    }
}

/// Enters the guest's handler: the suspended call is what it returns to.
///
/// # Errors
/// The guest's stack can't be written.
pub fn deliver(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let upcall = &mut vcpu.upcall;
    upcall.told = upcall.next.take();
    let address = upcall.asked.map_or(0, |asked| asked.address);
    vcpu.domain.stats.upcalls.bump();
    let handler = Handler { address, dpl: 0, masks_events: true };
    bounce::callback(vcpu, handler, ClearDirection::Yes)
}
