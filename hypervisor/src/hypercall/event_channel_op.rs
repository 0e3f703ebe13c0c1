//! event_channel_op: decodes calls for [`crate::event::ports`].

use super::outcome::{Outcome, create_continuation};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::event::port_table::End;
use crate::event::ports::{self, Sent};
use crate::memory::guest::GuestPtr;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno;
use pinfold_abi::event::*;
use pinfold_validator::DomId;

/// `event_channel_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let [command, argument, ..] = *args;
    if command != EVTCHNOP_SEND {
        return dispatch(vcpu, command, argument).into();
    }
    match send(vcpu, argument) {
        // Sending twice is harmless.
        Ok(true) => create_continuation(vcpu, *args),
        Ok(false) => Outcome::Done(0),
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// Sends an event. True if the back end has more to do: the call is restarted later.
fn send(vcpu: &Vcpu, argument: u64) -> Result<bool, Errno> {
    let domain = &vcpu.domain;
    Ok(match ports::send(domain, port(argument)?)? {
        Sent::Done => false,
        Sent::Console => {
            crate::backend::console::guest_sent(domain);
            false
        }
        Sent::Store => crate::backend::store::guest_sent(domain),
    })
}

/// Every command but [`EVTCHNOP_SEND`].
fn dispatch(vcpu: &Vcpu, command: u64, argument: u64) -> Result<(), Errno> {
    let domain = &vcpu.domain;
    match command {
        EVTCHNOP_BIND_INTERDOMAIN => {
            let pointer = GuestPtr::<BindInterdomain>::new(argument);
            let mut asked = pointer.read()?;
            let remote = resolve_domid(vcpu, asked.remote_dom);
            asked.local_port = ports::bind_interdomain(domain, remote, asked.remote_port)?;
            write_answer(vcpu, pointer, &asked, asked.local_port)
        }
        EVTCHNOP_BIND_VIRQ => {
            let pointer = GuestPtr::<BindVirq>::new(argument);
            let mut asked = pointer.read()?;
            asked.port = ports::bind_virq(domain, asked.virq, asked.vcpu)?;
            write_answer(vcpu, pointer, &asked, asked.port)
        }
        EVTCHNOP_BIND_IPI => {
            let pointer = GuestPtr::<BindIpi>::new(argument);
            let mut asked = pointer.read()?;
            asked.port = ports::bind_ipi(domain, asked.vcpu)?;
            write_answer(vcpu, pointer, &asked, asked.port)
        }
        EVTCHNOP_ALLOC_UNBOUND => {
            let pointer = GuestPtr::<AllocUnbound>::new(argument);
            let mut asked = pointer.read()?;
            own(vcpu, asked.dom)?;
            asked.port = ports::alloc_unbound(domain, resolve_domid(vcpu, asked.remote_dom))?;
            write_answer(vcpu, pointer, &asked, asked.port)
        }
        // No domain has physical interrupts.
        EVTCHNOP_BIND_PIRQ => Err(Errno::EPERM),
        EVTCHNOP_CLOSE => ports::close(domain, port(argument)?),
        EVTCHNOP_STATUS => status(vcpu, argument),
        EVTCHNOP_BIND_VCPU => {
            let asked = GuestPtr::<BindVcpu>::new(argument).read()?;
            ports::bind_vcpu(domain, asked.port, asked.vcpu)
        }
        EVTCHNOP_UNMASK => ports::unmask(domain, port(argument)?),
        EVTCHNOP_RESET => {
            own(vcpu, GuestPtr::<Reset>::new(argument).read()?.dom)?;
            ports::reset(domain);
            Ok(())
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn port(argument: u64) -> Result<u32, Errno> {
    Ok(GuestPtr::<PortArg>::new(argument).read()?.port)
}

/// The domain that a domid names.
fn resolve_domid(vcpu: &Vcpu, id: u16) -> DomId {
    if id == domid::SELF { vcpu.domain.id } else { DomId::new(id) }
}

/// Checks that a domid means the caller.
fn own(vcpu: &Vcpu, id: u16) -> Result<(), Errno> {
    // For other domains: as if they did not exist.
    if resolve_domid(vcpu, id) == vcpu.domain.id { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Returns a new port to the guest; closes it again if that fails.
fn write_answer<T>(vcpu: &Vcpu, pointer: GuestPtr<T>, value: &T, port: u32) -> Result<(), Errno>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    pointer.write(value).inspect_err(|_| {
        // It exists: it was opened just now.
        let _ = ports::close(&vcpu.domain, port);
    })
}

fn status(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<Status>::new(argument);
    let mut asked = pointer.read()?;
    own(vcpu, asked.dom)?;
    let found = ports::status(&vcpu.domain, asked.port)?;
    (asked.status, asked.detail, asked.remote_port) = match found.map(|port| port.end) {
        None | Some(End::Free) => (EVTCHNSTAT_CLOSED, 0, 0),
        Some(End::Unbound(remote)) => (EVTCHNSTAT_UNBOUND, remote.get().into(), 0),
        Some(End::Port(remote, port)) => (EVTCHNSTAT_INTERDOMAIN, remote.get().into(), port),
        // As if domain 0 were the other end.
        Some(End::Console | End::Store) => (EVTCHNSTAT_INTERDOMAIN, 0, 0),
        Some(End::Virq(virq)) => (EVTCHNSTAT_VIRQ, virq, 0),
        Some(End::Ipi) => (EVTCHNSTAT_IPI, 0, 0),
    };
    asked.vcpu = found.map_or(0, |port| port.vcpu.into());
    pointer.write(&asked)
}
