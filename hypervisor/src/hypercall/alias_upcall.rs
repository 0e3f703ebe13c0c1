//! Telling a guest of the mappings that a pin met, before the pin is refused.
//!
//! The pin is suspended like a call whose time is up: its progress is in the argument registers,
//! with a mark that says "told" ([`super::continuation`]). A frame on the guest's stack leads to its
//! handler, whose `iret` executes the call again. With the mark, the same pin is tried for the last
//! time, but for one case: what it meets now is in the way of another of its tables. Then the guest
//! is told again, [`TIMES`] times in all.
//!
//! Nothing here goes on for longer than that. A pin in the handler is not told of: what stands in
//! [`Upcall::told`] ends with the suspended pin's next try, and a guest that never tries again hears
//! of no other. The mark is the guest's to forge, which costs it its upcalls: a marked pin of which
//! nothing is known is refused like any other.

use super::continuation::Try;
use crate::console::log::record;
use crate::domain::regions::Life;
use crate::domain::vcpu::{Handler, Vcpu};
use crate::memory::guest::{GuestPtr, is_guest_address, is_guest_range};
use crate::memory::{report, validator};
use crate::trap::Fatal;
use crate::trap::bounce::{self, ClearDirection};
use arrayvec::ArrayVec;
use core::ops::ControlFlow;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{
    self, AliasUpcall, AliasesFound, FIND_TRUNCATED, MAPPING_ATTACHED, MAPPING_FREED,
    MAPPING_NAMED, MAPPING_WRITABLE, MAX_UPCALL_MAPPINGS,
};
use pinfold_validator::{Bounds, Mapping, Mfn, Refusal, Vaddr, Which};

/// How often the guest is told of one pin: of aliases of so many of its tables.
const TIMES: usize = 8;

/// A vCPU's part in it.
#[derive(Debug, Default)]
pub struct Upcall {
    /// Where the guest wants to be entered, and what it gets there.
    asked: Option<AliasUpcall>,
    /// The pin that the guest was told of.
    told: Option<Told>,
    /// The same, as it is when the call has been suspended.
    next: Option<Told>,
}

/// A pin that was suspended.
#[derive(Clone, Debug)]
struct Told {
    /// The frame to be pinned.
    pin: Mfn,
    /// For each time: the frame with an alias, and the number of the report, if there is one.
    met: ArrayVec<(Mfn, Option<u64>), TIMES>,
}

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

/// A pin met an alias: whether the guest is told, and the pin tried again. `id` is the number of the
/// report.
pub fn offer(vcpu: &mut Vcpu, pin: Mfn, attempt: Try, refusal: &Refusal, id: Option<u64>) -> bool {
    // Whatever comes of it, the pin that the guest was told of has been tried again.
    let told = match attempt {
        Try::First if vcpu.upcall.told.is_some() => return false,
        Try::First => None,
        Try::Again => match vcpu.upcall.told.take() {
            Some(told) => Some(told),
            None => return false,
        },
    };
    let Some(asked) = vcpu.upcall.asked.filter(|_| refusal.is_alias()) else { return false };
    let mut told = told.unwrap_or(Told { pin, met: ArrayVec::new() });
    let got_further = told.met.last().is_none_or(|&(frame, _)| frame != refusal.frame);
    if told.pin != pin || !got_further || told.met.try_push((refusal.frame, id)).is_err() {
        return false;
    }
    if !tell(vcpu, &asked, refusal.frame) {
        return false;
    }
    vcpu.upcall.next = Some(told);
    true
}

/// Writes the mappings to the guest's buffer; whether it is worth while: one of them at least is in
/// a range with a name, and all could be written.
fn tell(vcpu: &Vcpu, asked: &AliasUpcall, frame: Mfn) -> bool {
    let list = asked.buffer + size_of::<AliasesFound>() as u64;
    let list = GuestPtr::<pinfold::Mapping>::new(list);
    let bounds = Bounds { mappings: asked.room, ..Bounds::default() };
    let mut found = AliasesFound { frame: frame.get(), nr_mappings: 0, flags: 0 };
    let mut flags = 0;
    let mut written = true;
    let end =
        validator().find_mappings(frame, vcpu.domain.id, Which::Writable, bounds, &mut |mapping| {
            // Who borrowed the frame keeps to himself where he maps it.
            if validator().owner(mapping.table) != Some(vcpu.domain.id) {
                return ControlFlow::Continue(());
            }
            let told = encode(vcpu, frame, &mapping);
            flags |= told.flags;
            written = list.write_at(found.nr_mappings.into(), &told).is_ok();
            found.nr_mappings += 1;
            if written { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    if end.cut_short {
        found.flags |= FIND_TRUNCATED;
    }
    written && flags & MAPPING_NAMED != 0 && GuestPtr::new(asked.buffer).write(&found).is_ok()
}

/// A mapping as a guest is told of it.
pub fn encode(vcpu: &Vcpu, frame: Mfn, mapping: &Mapping) -> pinfold::Mapping {
    let mut flags = 0;
    if mapping.entry.is_writable() {
        flags |= MAPPING_WRITABLE;
    }
    if let Some(va) = mapping.address {
        flags |= MAPPING_ATTACHED;
        let region = vcpu.domain.regions.lock().find(va.get());
        if let Some(region) = region {
            flags |= MAPPING_NAMED;
            if region.life(va.get(), report::read_byte) == Life::Dead {
                flags |= MAPPING_FREED;
            }
        }
    }
    pinfold::Mapping {
        frame: frame.get(),
        va: mapping.address.map_or(0, Vaddr::get),
        table: mapping.table.get(),
        entry: mapping.entry.get(),
        index: mapping.index.get() as u16,
        flags,
        pad: 0,
    }
}

/// A pin went through that had been tried before: what it had met is gone.
pub fn pinned(vcpu: &mut Vcpu, pin: Mfn) {
    let Some(told) = vcpu.upcall.told.take().filter(|told| told.pin == pin) else { return };
    vcpu.domain.stats.healed.bump();
    for (frame, id) in told.met {
        // Without a report there is nothing to heal in the log.
        if let Some(id) = id.filter(|_| vcpu.domain.log_limit.allows()) {
            record!(vcpu.who(), HEALED, "id={id} frame={frame} pinned={pin} cleared_by=upcall");
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
