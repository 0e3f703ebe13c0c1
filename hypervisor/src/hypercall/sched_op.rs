//! sched_op: yield, block, shutdown, poll.

use super::Outcome;
use crate::domain::ending::Ending;
use crate::domain::vcpu::{RunState, Vcpu};
use crate::memory::guest::GuestPtr;
use crate::time::clock;
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::sched::*;

/// Most ports of one poll, as the reference has it.
const MAX_POLL_PORTS: u32 = 128;

/// `sched_op(command, argument)`.
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
    vcpu.upcall_mask().store(0, Ordering::SeqCst);
    // SeqCst: whoever raises an event sets pending first and looks for sleepers then; one of the
    // two must see the other.
    if vcpu.upcall_pending().load(Ordering::SeqCst) == 0 {
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
    match poll_now(vcpu, argument) {
        Ok(Some(deadline)) => {
            vcpu.state = RunState::Polling(deadline);
            Outcome::Wait(0)
        }
        Ok(None) => Outcome::Done(0),
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// `None` if there is nothing to wait for, else the deadline, if there is one.
fn poll_now(vcpu: &Vcpu, argument: u64) -> Result<Option<Option<u64>>, Errno> {
    let poll = GuestPtr::<Poll>::new(argument).read()?;
    if poll.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let ports = GuestPtr::<u32>::new(poll.ports);
    if poll.nr_ports != 0 {
        ports.read()?;
        // No port can be bound yet (event_channel_op is -ENOSYS), and an unbound one is refused.
        return Err(Errno::EINVAL);
    }
    let deliverable = vcpu.upcall_pending().load(Ordering::SeqCst) != 0
        && vcpu.upcall_mask().load(Ordering::SeqCst) == 0;
    let deadline = (poll.timeout != 0).then_some(poll.timeout);
    if deliverable || deadline.is_some_and(|at| at <= clock::now_ns()) {
        return Ok(None);
    }
    Ok(Some(deadline))
}
