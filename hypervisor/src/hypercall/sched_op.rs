//! sched_op: yield, block, shutdown, poll, watchdogs.

use super::outcome::Outcome;
use crate::domain::bounce::rflags;
use crate::domain::shutdown_reason::ShutdownReason;
use crate::domain::timers;
use crate::domain::vcpu::{MAX_POLL_PORTS, PollPorts, Vcpu};
use crate::event::ports;
use crate::memory::guest::GuestPtr;
use crate::time::clock;
use crate::time::timer_queue::TimerKind;
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::sched::*;

/// `sched_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, command: u64, argument: u64) -> Outcome {
    match command {
        SCHEDOP_YIELD => Outcome::Yield(0),
        SCHEDOP_BLOCK => block(vcpu),
        SCHEDOP_SHUTDOWN => shutdown(vcpu, argument),
        SCHEDOP_POLL => poll(vcpu, argument),
        SCHEDOP_SHUTDOWN_CODE => announce_reason(vcpu, argument).into(),
        SCHEDOP_WATCHDOG => watchdog(vcpu, argument).into(),
        // For domains that manage others, or the machine: none does.
        SCHEDOP_REMOTE_SHUTDOWN | SCHEDOP_PIN_OVERRIDE => Outcome::Done(Errno::EPERM.as_result()),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

fn block(vcpu: &mut Vcpu) -> Outcome {
    if vcpu.container.is_some() {
        vcpu.file.regs.rflags |= rflags::IF;
    } else {
        vcpu.info.upcall_mask().store(0, Ordering::SeqCst);
    }
    // The slot checks again whether an event came meanwhile, when the vCPU leaves its CPU.
    if vcpu.info.upcall_pending().load(Ordering::SeqCst) == 0 {
        vcpu.block();
    }
    Outcome::Yield(0)
}

fn shutdown(vcpu: &mut Vcpu, argument: u64) -> Outcome {
    match reason(argument) {
        Ok(reason) => {
            let announced = vcpu.domain.lifecycle.announced();
            vcpu.domain.end(ShutdownReason::Shutdown(announced.unwrap_or(reason)));
            Outcome::Yield(0)
        }
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// Announces the reason of a shutdown to come.
fn announce_reason(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let reason = reason(argument)?;
    vcpu.domain.lifecycle.announce(reason);
    Ok(())
}

fn reason(argument: u64) -> Result<u32, Errno> {
    let reason = GuestPtr::<Shutdown>::new(argument).read()?.reason;
    if reason > SHUTDOWN_SOFT_RESET { Err(Errno::EINVAL) } else { Ok(reason) }
}

/// Arms, resets or disarms a watchdog; returns the number of a new one. Watchdogs are timers of vCPU
/// 0, whichever vCPU calls.
fn watchdog(vcpu: &Vcpu, argument: u64) -> Result<i64, Errno> {
    const KINDS: [TimerKind; 2] = [TimerKind::Watchdog1, TimerKind::Watchdog2];
    let asked = GuestPtr::<Watchdog>::new(argument).read()?;
    let domain = &vcpu.domain;
    let mut used = domain.watchdogs.lock();
    let slot = match asked.id {
        0 => used.iter().position(|used| !used).ok_or(Errno::ENOSPC)?,
        id => {
            let slot = id as usize - 1;
            if !used.get(slot).is_some_and(|&used| used) {
                return Err(Errno::EINVAL);
            }
            slot
        }
    };
    // A new one with no time at all fires at once, as on Xen 4.17.
    let stops = asked.id != 0 && asked.timeout == 0;
    used[slot] = !stops;
    if stops {
        timers::disarm(domain, 0, KINDS[slot]);
    } else {
        let end = clock::now_ns().saturating_add(u64::from(asked.timeout) * 1_000_000_000);
        timers::arm(domain, 0, KINDS[slot], end, 0);
    }
    Ok(if asked.id == 0 { slot as i64 + 1 } else { 0 })
}

fn poll(vcpu: &mut Vcpu, argument: u64) -> Outcome {
    match read_poll(vcpu, argument) {
        Ok((ports, deadline)) => {
            vcpu.start_polling(ports, deadline);
            if let Some(at) = deadline {
                timers::arm(&vcpu.domain, vcpu.id, TimerKind::Poll, at, 0);
            }
            if !vcpu.is_wakeup_due() {
                return Outcome::Yield(0);
            }
            vcpu.stop_waiting();
            Outcome::Done(0)
        }
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// The ports of a poll, and its deadline, if it has one.
fn read_poll(vcpu: &Vcpu, argument: u64) -> Result<(PollPorts, Option<u64>), Errno> {
    let poll = GuestPtr::<Poll>::new(argument).read()?;
    if poll.nr_ports as usize > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let mut polled = PollPorts::new();
    let ports = GuestPtr::<u32>::new(poll.ports);
    for index in 0..poll.nr_ports {
        let port = ports.read_at(index.into())?;
        if !ports::is_in_use(&vcpu.domain, port) {
            return Err(Errno::EINVAL);
        }
        polled.push(port as u16);
    }
    Ok((polled, (poll.timeout != 0).then_some(poll.timeout)))
}
