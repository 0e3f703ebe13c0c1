//! sched_op: yield, block, shutdown, poll.

use super::Outcome;
use crate::domain::ending::Ending;
use crate::domain::vcpu::{MAX_POLL_PORTS, RunState, Vcpu};
use crate::event::ports;
use crate::memory::guest::GuestPtr;
use crate::time::timers::{self, Kind};
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::sched::*;

/// `sched_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, command: u64, argument: u64) -> Outcome {
    match command {
        SCHEDOP_YIELD => Outcome::Wait(0),
        SCHEDOP_BLOCK => block(vcpu),
        SCHEDOP_SHUTDOWN => shutdown(vcpu, argument),
        SCHEDOP_POLL => poll(vcpu, argument),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

fn block(vcpu: &mut Vcpu) -> Outcome {
    vcpu.info.upcall_mask().store(0, Ordering::SeqCst);
    // The seat looks whether an event came meanwhile.
    if vcpu.info.upcall_pending().load(Ordering::SeqCst) == 0 {
        vcpu.state = RunState::Blocked;
    }
    Outcome::Wait(0)
}

fn shutdown(vcpu: &mut Vcpu, argument: u64) -> Outcome {
    let reason = match GuestPtr::<Shutdown>::new(argument).read() {
        Ok(shutdown) => shutdown.reason,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    if reason > SHUTDOWN_SOFT_RESET {
        return Outcome::Done(Errno::EINVAL.as_result());
    }
    vcpu.domain.end(Ending::Shutdown(reason));
    Outcome::Wait(0)
}

fn poll(vcpu: &mut Vcpu, argument: u64) -> Outcome {
    match begin_poll(vcpu, argument) {
        Ok(deadline) => {
            // Counted before it looks at the ports: see `Domain::poke_pollers`.
            vcpu.domain.pollers.fetch_add(1, Ordering::SeqCst);
            vcpu.state = RunState::Polling(deadline);
            if let Some(at) = deadline {
                timers::arm(&vcpu.domain, vcpu.id, Kind::Poll, at, 0);
            }
            if !vcpu.may_go_on() {
                return Outcome::Wait(0);
            }
            vcpu.stop_waiting();
            Outcome::Done(0)
        }
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// Notes the ports; the deadline, if there is one.
fn begin_poll(vcpu: &mut Vcpu, argument: u64) -> Result<Option<u64>, Errno> {
    let poll = GuestPtr::<Poll>::new(argument).read()?;
    if poll.nr_ports as usize > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    vcpu.polled.clear();
    let ports = GuestPtr::<u32>::new(poll.ports);
    for index in 0..poll.nr_ports {
        let port = ports.read_at(index.into())?;
        if !ports::is_in_use(&vcpu.domain, port) {
            vcpu.polled.clear();
            return Err(Errno::EINVAL);
        }
        vcpu.polled.push(port as u16);
    }
    Ok((poll.timeout != 0).then_some(poll.timeout))
}
