//! sched_op: yield, block, shutdown, poll.

use super::Outcome;
use crate::domain::ending::Ending;
use crate::domain::vcpu::{RunState, Vcpu};
use crate::memory::{direct_map, guest::GuestPtr};
use crate::time::clock;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::errno::Errno;
use pinfold_abi::event::PORTS;
use pinfold_abi::sched::*;
use pinfold_abi::shared_info::SharedInfo;

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
    for index in 0..poll.nr_ports {
        let port = ports.read_at(u64::from(index))?;
        if port >= PORTS {
            return Err(Errno::EINVAL);
        }
        if is_pending(vcpu, port) {
            return Ok(None);
        }
    }
    let deliverable = vcpu.upcall_pending().load(Ordering::SeqCst) != 0
        && vcpu.upcall_mask().load(Ordering::SeqCst) == 0;
    let deadline = (poll.timeout != 0).then_some(poll.timeout);
    if deliverable || deadline.is_some_and(|at| at <= clock::now_ns()) {
        return Ok(None);
    }
    Ok(Some(deadline))
}

fn is_pending(vcpu: &Vcpu, port: u32) -> bool {
    let word = core::mem::offset_of!(SharedInfo, evtchn_pending) + port as usize / 64 * 8;
    let at = direct_map::frame(vcpu.domain.shared_info).wrapping_add(word).cast::<AtomicU64>();
    // SAFETY: the word is in the shared frame, since the port is below 4096; guests write it too.
    unsafe { (*at).load(Ordering::SeqCst) & 1 << (port % 64) != 0 }
}
