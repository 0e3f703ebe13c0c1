//! vcpu_op: vCPUs online and offline, their registered areas, their timers.

use super::continuation::end_or_restart;
use super::outcome::Outcome;
use super::vcpu_initialise;
use crate::domain::VcpuSlot;
use crate::domain::element_stop::ElementStop;
use crate::domain::timers;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::memory::frame_refs::WritableRef;
use crate::memory::guest::{self, GuestPtr};
use crate::time::clock;
use crate::time::timer_queue::TimerKind;
use pinfold_abi::address::PAGE_SIZE;
use pinfold_abi::errno::Errno;
use pinfold_abi::shared_info::VcpuInfo;
use pinfold_abi::vcpu::*;
use pinfold_validator::Mfn;
use zerocopy::IntoBytes;

/// `vcpu_op(command, vcpu, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let [command, number, argument, ..] = *args;
    let domain = vcpu.domain.clone();
    // The number is an int of the ABI.
    let slot = usize::try_from(number & 0xffff_ffff).ok().and_then(|n| domain.slots.get(n));
    let Some(slot) = slot else { return Outcome::Done(Errno::ENOENT.as_result()) };
    let own = slot.id == vcpu.id;
    match command {
        VCPUOP_INITIALISE => vcpu_initialise::run(vcpu, slot, args),
        VCPUOP_UP => if slot.bring_up() { Ok(()) } else { Err(Errno::EINVAL) }.into(),
        VCPUOP_DOWN => down(vcpu, slot),
        VCPUOP_IS_UP => Outcome::Done(i64::from(slot.is_up())),
        VCPUOP_GET_RUNSTATE_INFO => {
            let info = slot.runstate.lock().read();
            GuestPtr::new(argument).write(&info).into()
        }
        VCPUOP_REGISTER_RUNSTATE_AREA => register_runstate(vcpu, slot, argument).into(),
        VCPUOP_SET_PERIODIC_TIMER => set_periodic(vcpu, slot, argument).into(),
        VCPUOP_STOP_PERIODIC_TIMER => {
            timers::disarm(&domain, slot.id, TimerKind::Periodic);
            Outcome::Done(0)
        }
        // Timers of other vCPUs are refused, as on Xen.
        VCPUOP_SET_SINGLESHOT_TIMER if own => set_singleshot(vcpu, argument).into(),
        VCPUOP_STOP_SINGLESHOT_TIMER if own => {
            timers::disarm(&domain, slot.id, TimerKind::Singleshot);
            Outcome::Done(0)
        }
        VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER => {
            Outcome::Done(Errno::EINVAL.as_result())
        }
        VCPUOP_REGISTER_VCPU_INFO => {
            let registered = register_info(vcpu, slot, argument);
            end_or_restart(vcpu, args, registered)
        }
        VCPUOP_SEND_NMI => {
            slot.send_nmi();
            Outcome::Done(0)
        }
        VCPUOP_GET_PHYSID => Outcome::Done(Errno::EINVAL.as_result()),
        VCPUOP_REGISTER_TIME_AREA => register_time(vcpu, slot, argument).into(),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

fn down(vcpu: &Vcpu, slot: &VcpuSlot) -> Outcome {
    // Recorded in the slot at once, so that another vCPU's `up` sees it before this one has stopped.
    slot.bring_down();
    if slot.id == vcpu.id { Outcome::Yield(0) } else { Outcome::Done(0) }
}

fn register_runstate(vcpu: &Vcpu, slot: &VcpuSlot, argument: u64) -> Result<(), Errno> {
    let area = GuestPtr::<RegisterArea>::new(argument).read()?;
    // Only the start address is checked here; a later write that fails is dropped.
    if !guest::is_guest_address(area.address) {
        return Err(Errno::EFAULT);
    }
    let mut runstate = slot.runstate.lock();
    runstate.set_area(area.address);
    if slot.id == vcpu.id {
        drop(runstate);
        vcpu.publish_runstate();
    } else {
        let info = runstate.read();
        drop(runstate);
        // For now; the vCPU writes it when it runs. A page that isn't mapped is skipped.
        let _ = guest::write_bytes(area.address, info.as_bytes());
    }
    Ok(())
}

fn register_time(vcpu: &Vcpu, slot: &VcpuSlot, argument: u64) -> Result<(), Errno> {
    let area = GuestPtr::<RegisterArea>::new(argument).read()?;
    // The clock's scale never changes, so one copy is enough.
    guest::write_by_root(
        vcpu.domain.id,
        vcpu.kernel_root.frame(),
        area.address,
        slot.info().time().as_bytes(),
    )
}

fn register_info(vcpu: &mut Vcpu, slot: &VcpuSlot, argument: u64) -> Result<(), ElementStop> {
    let asked = GuestPtr::<RegisterVcpuInfo>::new(argument).read()?;
    let offset = asked.offset as usize;
    let frame = WritableRef::get(vcpu.domain.id, Mfn::new(asked.mfn)).map_err(|refusal| {
        let busy = vcpu.work.may_retry(&refusal);
        if busy { ElementStop::Preempted } else { Errno::EINVAL.into() }
    })?;
    vcpu.work.clear_retries();
    // In this order, as on Xen: first the frame, then the place in it.
    if offset > PAGE_SIZE as usize - size_of::<VcpuInfo>() || !offset.is_multiple_of(8) {
        return Err(Errno::ENXIO.into());
    }
    if !slot.register_info(frame, offset) {
        return Err(Errno::EINVAL.into());
    }
    if slot.id == vcpu.id {
        vcpu.info = slot.info();
    } else {
        // If it runs, it reads the new place before it resumes its guest.
        slot.kick();
    }
    Ok(())
}

fn set_periodic(vcpu: &Vcpu, slot: &VcpuSlot, argument: u64) -> Result<(), Errno> {
    let period = GuestPtr::<PeriodicTimer>::new(argument).read()?.period_ns;
    if period < timers::SHORTEST_PERIOD_NS || period > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let first = clock::now_ns().saturating_add(period);
    timers::arm(&vcpu.domain, slot.id, TimerKind::Periodic, first, period);
    Ok(())
}

fn set_singleshot(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let asked = GuestPtr::<SingleshotTimer>::new(argument).read()?;
    // SINGLESHOT_FUTURE has no effect, as on Xen 4.17 (measured): a deadline in the past
    // fires at once.
    arm_singleshot(vcpu, asked.timeout_abs_ns);
    Ok(())
}

/// `set_timer_op(deadline)`: arms the single-shot timer; 0 disarms it.
pub fn set_timer(vcpu: &Vcpu, deadline: u64) -> Outcome {
    if deadline == 0 {
        timers::disarm(&vcpu.domain, vcpu.id, TimerKind::Singleshot);
    } else {
        arm_singleshot(vcpu, deadline);
    }
    Outcome::Done(0)
}

fn arm_singleshot(vcpu: &Vcpu, deadline: u64) {
    timers::arm(&vcpu.domain, vcpu.id, TimerKind::Singleshot, deadline, 0);
    // A deadline in the past fires now, not at the next timer interrupt.
    timers::expire();
}
