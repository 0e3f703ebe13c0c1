//! `event_channel_op`: ports, and what they are connected to.

use super::{Errno, address, call, check};
use pinfold_abi::domid;
use pinfold_abi::event::{self, PortArg};
use pinfold_abi::hypercall::Hypercall;

/// A port of this domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// What a port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the port is not in use.
    Closed,
    /// Nothing yet: this domain may bind to it.
    Unbound(u16),
    /// A port of another domain, or of this one.
    Interdomain(u16, Port),
    /// A physical interrupt.
    Pirq(u32),
    /// A virtual interrupt.
    Virq(u32),
    /// The domain's own vCPUs.
    Ipi,
    /// Something that the ABI does not name.
    Unknown(u32),
}

/// The state of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the port is connected to.
    pub kind: Kind,
    /// Which vCPU gets its events.
    pub vcpu: u32,
}

/// Makes the call.
fn op<T>(command: u64, argument: &mut T) -> Result<(), Errno> {
    let args = [command, address(core::ptr::from_mut(argument)), 0, 0, 0];
    // SAFETY: the call reads and writes its argument and touches no other memory but the shared
    // page's event words.
    check(unsafe { call(Hypercall::EventChannelOp as u64, args) }).map(drop)
}

/// Binds a port to a virtual interrupt of a vCPU; a global interrupt is bound to vCPU 0.
///
/// # Errors
///
/// -EEXIST when it is bound already, -EINVAL for an unknown one or a global one on another vCPU,
/// -ENOENT for an unknown vCPU.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<Port, Errno> {
    let mut argument = event::BindVirq { virq, vcpu, port: 0 };
    op(event::EVTCHNOP_BIND_VIRQ, &mut argument)?;
    Ok(Port(argument.port))
}

/// Binds a port whose events, sent by any vCPU of the domain, go to this vCPU.
///
/// # Errors
///
/// -ENOENT for an unknown vCPU, -ENOSPC without a free port.
pub fn bind_ipi(vcpu: u32) -> Result<Port, Errno> {
    let mut argument = event::BindIpi { vcpu, port: 0 };
    op(event::EVTCHNOP_BIND_IPI, &mut argument)?;
    Ok(Port(argument.port))
}

/// Allocates a port that the domain `remote` may bind to; [`domid::SELF`] is this domain.
///
/// # Errors
///
/// -ESRCH for an unknown domain, -ENOSPC without a free port.
pub fn alloc_unbound(remote: u16) -> Result<Port, Errno> {
    let mut argument = event::AllocUnbound { dom: domid::SELF, remote_dom: remote, port: 0 };
    op(event::EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
    Ok(Port(argument.port))
}

/// Binds a port to one that the domain `remote` has allocated for this domain.
///
/// # Errors
///
/// -EINVAL for a port that is not offered to this domain, -ESRCH for an unknown domain.
pub fn bind_interdomain(remote: u16, port: Port) -> Result<Port, Errno> {
    let mut argument = event::BindInterdomain {
        remote_dom: remote,
        remote_port: port.0,
        ..event::BindInterdomain::default()
    };
    op(event::EVTCHNOP_BIND_INTERDOMAIN, &mut argument)?;
    Ok(Port(argument.local_port))
}

/// Sends an event to the other end of a port.
///
/// # Errors
///
/// -EINVAL for a port that cannot be sent on.
pub fn send(port: Port) -> Result<(), Errno> {
    op(event::EVTCHNOP_SEND, &mut PortArg { port: port.0 })
}

/// Closes a port.
///
/// # Errors
///
/// -EINVAL for a port that is not in use.
pub fn close(port: Port) -> Result<(), Errno> {
    op(event::EVTCHNOP_CLOSE, &mut PortArg { port: port.0 })
}

/// Clears a port's mask bit, and delivers an event that came meanwhile.
///
/// # Errors
///
/// -EINVAL for a port that does not exist.
pub fn unmask(port: Port) -> Result<(), Errno> {
    op(event::EVTCHNOP_UNMASK, &mut PortArg { port: port.0 })
}

/// Sets which vCPU gets the port's events.
///
/// # Errors
///
/// -EINVAL for a port that belongs to a vCPU by its nature, -ENOENT for an unknown vCPU.
pub fn bind_vcpu(port: Port, vcpu: u32) -> Result<(), Errno> {
    op(event::EVTCHNOP_BIND_VCPU, &mut event::BindVcpu { port: port.0, vcpu })
}

/// Reads the state of a port of this domain.
///
/// # Errors
///
/// -EINVAL for a port that does not exist.
pub fn status(port: Port) -> Result<Status, Errno> {
    let mut argument = event::Status { dom: domid::SELF, port: port.0, ..event::Status::default() };
    op(event::EVTCHNOP_STATUS, &mut argument)?;
    let event::Status { status, vcpu, detail, remote_port, .. } = argument;
    let kind = match status {
        event::EVTCHNSTAT_CLOSED => Kind::Closed,
        event::EVTCHNSTAT_UNBOUND => Kind::Unbound(detail as u16),
        event::EVTCHNSTAT_INTERDOMAIN => Kind::Interdomain(detail as u16, Port(remote_port)),
        event::EVTCHNSTAT_PIRQ => Kind::Pirq(detail),
        event::EVTCHNSTAT_VIRQ => Kind::Virq(detail),
        event::EVTCHNSTAT_IPI => Kind::Ipi,
        other => Kind::Unknown(other),
    };
    Ok(Status { kind, vcpu })
}

/// Closes all ports of this domain.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn reset() -> Result<(), Errno> {
    op(event::EVTCHNOP_RESET, &mut event::Reset { dom: domid::SELF })
}
