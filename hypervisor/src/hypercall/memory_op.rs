//! memory_op: changes of a domain's memory reservation, and queries about memory.

use super::outcome::{Outcome, create_continuation};
use crate::arch::ipi;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory::guest::{self, GuestPtr};
use crate::memory::{frames, m2p, max_mfn};
use core::sync::atomic::Ordering;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{M2P_END, M2P_START};
use pinfold_abi::memory::*;
use pinfold_validator::Mfn;
use zerocopy::IntoBytes;

/// Largest extent: 2 MiB, as unprivileged domains may have it.
const MAX_ORDER: u32 = 9;
/// Bits of the command that name it; the rest count extents done before a restart.
const COMMAND_BITS: u32 = 6;
const COMMAND_MASK: u64 = (1 << COMMAND_BITS) - 1;

/// `memory_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let (command, start) = (args[0] & COMMAND_MASK, args[0] >> COMMAND_BITS);
    let argument = args[1];
    match command {
        INCREASE_RESERVATION | DECREASE_RESERVATION | POPULATE_PHYSMAP => {
            reservation(vcpu, command, start, args)
        }
        _ if start != 0 => Outcome::Done(Errno::ENOSYS.as_result()),
        MAXIMUM_RAM_PAGE => Outcome::Done(max_mfn().get() as i64),
        CURRENT_RESERVATION => {
            own(vcpu, argument).map(|()| vcpu.domain.pages.load(Ordering::Relaxed) as i64).into()
        }
        MAXIMUM_RESERVATION => own(vcpu, argument).map(|()| vcpu.domain.max_pages as i64).into(),
        MAXIMUM_GPFN => own(vcpu, argument).map(|()| vcpu.domain.max_pages as i64 - 1).into(),
        MACHPHYS_MFN_LIST => m2p_extents(argument).into(),
        MACHPHYS_MAPPING => {
            let mapping =
                MachphysMapping { v_start: M2P_START, v_end: M2P_END, max_mfn: max_mfn().get() };
            GuestPtr::new(argument).write(&mapping).into()
        }
        MEMORY_MAP => memory_map(vcpu, argument).into(),
        EXCHANGE => super::memory_exchange::run(vcpu, args),
        MACHINE_MEMORY_MAP | SET_MEMORY_MAP => Outcome::Done(Errno::EPERM.as_result()),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

/// Reads a domid and checks that it means the caller.
fn own(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    check_domain(vcpu, GuestPtr::<u16>::new(argument).read()?)
}

/// Checks that a domid means the caller.
pub fn check_domain(vcpu: &Vcpu, id: u16) -> Result<(), Errno> {
    match id {
        id if id == domid::SELF || id == vcpu.domain.id.get() => Ok(()),
        // For other domains: as if they did not exist.
        _ => Err(Errno::ESRCH),
    }
}

fn memory_map(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<MemoryMap>::new(argument);
    let mut map = pointer.read()?;
    if map.nr_entries == 0 {
        return Err(Errno::EINVAL);
    }
    let ram = E820Entry { addr: 0, size: vcpu.domain.max_pages * 4096, kind: E820_RAM };
    guest::write_bytes(map.buffer, ram.as_bytes())?;
    map.nr_entries = 1;
    pointer.write(&map)
}

fn m2p_extents(argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<MachphysMfnList>::new(argument);
    let mut list = pointer.read()?;
    let extents = GuestPtr::<u64>::new(list.extent_start);
    list.nr_extents = 0;
    while list.nr_extents < list.max_extents {
        let index = u64::from(list.nr_extents);
        let Some(physical) = m2p::extent(index) else { break };
        extents.write_at(index, &(physical >> 12))?;
        list.nr_extents += 1;
    }
    pointer.write(&list)
}

/// Increase, decrease, populate: the result is the number of extents done.
fn reservation(vcpu: &mut Vcpu, command: u64, start: u64, args: &Args) -> Outcome {
    let asked = match GuestPtr::<Reservation>::new(args[1]).read() {
        Ok(asked) => asked,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    // The result counts extents: none, if the call can't begin.
    if check_domain(vcpu, asked.domid).is_err() {
        return Outcome::Done(start as i64);
    }
    // The largest count that fits beside the command.
    if start > asked.nr_extents || asked.nr_extents > u64::MAX >> COMMAND_BITS {
        return Outcome::Done(start as i64);
    }
    if asked.extent_order > MAX_ORDER {
        return Outcome::Done(start as i64);
    }
    let list = GuestPtr::<u64>::new(asked.extent_start);
    for index in start..asked.nr_extents {
        if index != start && vcpu.work.is_time_up() {
            let resume = [command | index << COMMAND_BITS, args[1], args[2], args[3], args[4]];
            return create_continuation(vcpu, resume);
        }
        vcpu.work.charge(cost::PAGE << asked.extent_order);
        let done = match command {
            DECREASE_RESERVATION => decrease(vcpu, list, index, asked.extent_order),
            POPULATE_PHYSMAP => populate(vcpu, list, index, asked.extent_order),
            _ => increase(vcpu, list, index, asked.extent_order),
        };
        if done.is_err() {
            return Outcome::Done(index as i64);
        }
    }
    Outcome::Done(asked.nr_extents as i64)
}

/// Allocates one extent for the domain, up to its limit.
pub fn take_extent(vcpu: &Vcpu, order: u32) -> Result<Mfn, Errno> {
    let domain = &vcpu.domain;
    let count = 1u64 << order;
    // Relaxed: the count is only a limit, and orders nothing.
    let room = domain.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pages| {
        pages.checked_add(count).filter(|&sum| sum <= domain.max_pages)
    });
    room.map_err(|_| Errno::ENOMEM)?;
    frames::alloc_domain_frames(domain.id, order).ok_or_else(|| {
        domain.pages.fetch_sub(count, Ordering::Relaxed);
        Errno::ENOMEM
    })
}

fn increase(vcpu: &Vcpu, list: GuestPtr<u64>, index: u64, order: u32) -> Result<(), Errno> {
    let first = take_extent(vcpu, order)?;
    if list.is_null() {
        return Ok(());
    }
    list.write_at(index, &first.get())
}

fn populate(vcpu: &Vcpu, list: GuestPtr<u64>, index: u64, order: u32) -> Result<(), Errno> {
    let pfn = list.read_at(index)?;
    let last = pfn.checked_add((1 << order) - 1).ok_or(Errno::EINVAL)?;
    if last >= 1 << 40 {
        return Err(Errno::EINVAL);
    }
    let first = take_extent(vcpu, order)?;
    for offset in 0..1 << order {
        let mfn = Mfn::new(first.get() + offset);
        // If another vCPU has released the frame already, its M2P entry is left alone.
        let _ = m2p::set_owned(vcpu.domain.id, mfn, pfn + offset);
    }
    list.write_at(index, &first.get())
}

/// Releases one extent. Every frame of it must be the caller's, without references.
fn decrease(vcpu: &Vcpu, list: GuestPtr<u64>, index: u64, order: u32) -> Result<(), Errno> {
    let first = list.read_at(index)?;
    for offset in 0..1u64 << order {
        ipi::service_ipis();
        let mfn = Mfn::new(first.checked_add(offset).ok_or(Errno::EINVAL)?);
        frames::release(mfn, vcpu.domain.id).map_err(|refusal| {
            crate::diagnostics::report::refused(vcpu, &refusal);
            Errno::EINVAL
        })?;
        vcpu.domain.pages.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}
