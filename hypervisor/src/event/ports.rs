//! Operations on a domain's ports.

use super::delivery::{mark, raise_port};
use super::port_table::{End, FREE, Port, Ports, is_per_vcpu};
use crate::domain::{self, Domain};
use pinfold_abi::errno::Errno;
use pinfold_abi::event::*;
use pinfold_validator::DomId;

/// Raises an event on a port of the domain whose ports these are. They are locked, so teardown hasn't
/// reset them yet ([`reset`]), and the domain still has its shared page.
fn raise_locked(ports: &Ports, domain: &Domain, port: u32) {
    if let Ok(found) = ports.get(port) {
        raise_port(domain, port, found.vcpu);
    }
}

/// Checks a vCPU number.
fn check_vcpu(domain: &Domain, vcpu: u32) -> Result<u16, Errno> {
    u16::try_from(vcpu).ok().filter(|&vcpu| domain.slots.len() > vcpu.into()).ok_or(Errno::ENOENT)
}

/// Reserves the console's port, before the domain runs.
pub fn open_console(domain: &Domain) -> u32 {
    domain.ports.lock().allocate(End::Console, 0).expect("the first port is free")
}

/// Reserves the store's port, before the domain runs.
pub fn open_store(domain: &Domain) -> u32 {
    domain.ports.lock().allocate(End::Store, 0).expect("the first ports are free")
}

/// Allocates a port that a domain may bind to.
///
/// # Errors
/// ENOSPC if all are in use.
pub fn alloc_unbound(domain: &Domain, remote: DomId) -> Result<u32, Errno> {
    let port = domain.ports.lock().allocate(End::Unbound(remote), 0)?;
    domain.shared_page.clear_pending(port);
    Ok(port)
}

/// Binds a VIRQ.
///
/// # Errors
/// EINVAL for a bad VIRQ number, or a global VIRQ on another vCPU than 0; ENOENT for a bad vCPU
/// number; EEXIST if it is bound already; ENOSPC if all ports are in use.
pub fn bind_virq(domain: &Domain, virq: u32, vcpu: u32) -> Result<u32, Errno> {
    if virq >= NR_VIRQS || !is_per_vcpu(virq) && vcpu != 0 {
        return Err(Errno::EINVAL);
    }
    let vcpu = check_vcpu(domain, vcpu)?;
    let mut ports = domain.ports.lock();
    if ports.bound_virq(virq, vcpu).is_some() {
        return Err(Errno::EEXIST);
    }
    let port = ports.allocate(End::Virq(virq), vcpu)?;
    domain.shared_page.clear_pending(port);
    Ok(port)
}

/// Allocates a port for IPIs between the domain's own vCPUs.
///
/// # Errors
/// ENOENT for a bad vCPU number, ENOSPC if all ports are in use.
pub fn bind_ipi(domain: &Domain, vcpu: u32) -> Result<u32, Errno> {
    let vcpu = check_vcpu(domain, vcpu)?;
    let port = domain.ports.lock().allocate(End::Ipi, vcpu)?;
    domain.shared_page.clear_pending(port);
    Ok(port)
}

/// Binds to an unbound port of another domain, or of the same one.
///
/// # Errors
/// ESRCH for a bad domid, EINVAL if the caller may not bind to the port, ENOSPC if all ports are in
/// use.
pub fn bind_interdomain(domain: &Domain, remote: DomId, remote_port: u32) -> Result<u32, Errno> {
    if remote == domain.id {
        let mut ports = domain.ports.lock();
        let port = ports.get(remote_port)?;
        if port.end != End::Unbound(domain.id) {
            return Err(Errno::EINVAL);
        }
        let local = ports.allocate(End::Port(domain.id, remote_port), 0)?;
        ports.list[remote_port as usize].end = End::Port(domain.id, local);
        start_pending(&ports, domain, local);
        Ok(local)
    } else {
        let other = domain::find(remote).ok_or(Errno::ESRCH)?;
        // Two domains may bind to each other at once: the lower number is locked first.
        let (mut own, mut others);
        if domain.id < other.id {
            own = domain.ports.lock();
            others = other.ports.lock();
        } else {
            others = other.ports.lock();
            own = domain.ports.lock();
        }
        let port = others.get(remote_port)?;
        if port.end != End::Unbound(domain.id) || other.is_ending() {
            return Err(Errno::EINVAL);
        }
        let local = own.allocate(End::Port(remote, remote_port), 0)?;
        others.list[remote_port as usize].end = End::Port(domain.id, local);
        start_pending(&own, domain, local);
        Ok(local)
    }
}

/// Makes a new port pending, so that events sent before it was bound are not lost.
fn start_pending(ports: &Ports, domain: &Domain, port: u32) {
    domain.shared_page.clear_pending(port);
    raise_locked(ports, domain, port);
}

/// Closes a port; the other end becomes unbound.
///
/// # Errors
/// EINVAL if it isn't in use.
pub fn close(domain: &Domain, port: u32) -> Result<(), Errno> {
    let end = {
        let mut ports = domain.ports.lock();
        let end = ports.get(port)?.end;
        ports.list[port as usize] = FREE;
        if let End::Port(remote, remote_port) = end
            && remote == domain.id
            && let Some(other) = ports.list.get_mut(remote_port as usize)
            && other.end == End::Port(domain.id, port)
        {
            other.end = End::Unbound(domain.id);
        }
        end
    };
    domain.shared_page.clear_pending(port);
    if let End::Port(remote, remote_port) = end
        && remote != domain.id
        && let Some(other) = domain::find(remote)
        && let Some(other_port) = other.ports.lock().list.get_mut(remote_port as usize)
        // Both ends may be closed at once, and the number may be in use again.
        && other_port.end == End::Port(domain.id, port)
    {
        other_port.end = End::Unbound(domain.id);
    }
    Ok(())
}

/// Closes all ports.
pub fn reset(domain: &Domain) {
    let count = domain.ports.lock().list.len() as u32;
    for port in 1..count {
        // Fails for ports that aren't in use.
        let _ = close(domain, port);
    }
}

/// The back end that [`send`] must service, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None.
    Done,
    /// The console.
    Console,
    /// The xenstore.
    Store,
}

/// Raises an event at the other end of a port.
///
/// # Errors
/// EINVAL if there is no such port, or the guest may not send on it.
pub fn send(domain: &Domain, port: u32) -> Result<Sent, Errno> {
    let remote = {
        let ports = domain.ports.lock();
        match ports.get(port)?.end {
            End::Port(remote, remote_port) if remote != domain.id => (remote, remote_port),
            End::Port(_, own_port) => {
                raise_locked(&ports, domain, own_port);
                return Ok(Sent::Done);
            }
            End::Ipi => {
                raise_locked(&ports, domain, port);
                return Ok(Sent::Done);
            }
            End::Unbound(_) => return Ok(Sent::Done),
            End::Console => return Ok(Sent::Console),
            End::Store => return Ok(Sent::Store),
            End::Virq(_) | End::Free => return Err(Errno::EINVAL),
        }
    };
    let (remote, remote_port) = remote;
    if let Some(other) = domain::find(remote) {
        let ports = other.ports.lock();
        // The other end may have been closed since.
        if ports.get(remote_port).is_ok_and(|found| found.end == End::Port(domain.id, port)) {
            raise_locked(&ports, &other, remote_port);
        }
    }
    Ok(Sent::Done)
}

/// A port; `None` if it isn't in use.
///
/// # Errors
/// EINVAL for a number beyond the ABI's limit.
pub fn status(domain: &Domain, port: u32) -> Result<Option<Port>, Errno> {
    if port >= PORTS {
        return Err(Errno::EINVAL);
    }
    Ok(domain.ports.lock().get(port).ok())
}

/// Binds a port to another vCPU.
///
/// # Errors
/// ENOENT for a bad vCPU number; EINVAL for a port that isn't in use, or is bound per vCPU.
pub fn bind_vcpu(domain: &Domain, port: u32, vcpu: u32) -> Result<(), Errno> {
    let vcpu = check_vcpu(domain, vcpu)?;
    let mut ports = domain.ports.lock();
    match ports.get(port)?.end {
        End::Ipi => return Err(Errno::EINVAL),
        End::Virq(virq) if is_per_vcpu(virq) => return Err(Errno::EINVAL),
        _ => ports.list[port as usize].vcpu = vcpu,
    }
    Ok(())
}

/// Unmasks a port, and delivers an event that is pending. A port that isn't in use has a mask, too.
///
/// # Errors
/// EINVAL for a number beyond the ABI's limit.
pub fn unmask(domain: &Domain, port: u32) -> Result<(), Errno> {
    if port >= PORTS {
        return Err(Errno::EINVAL);
    }
    let ports = domain.ports.lock();
    let vcpu = ports.get(port).map_or(0, |found| found.vcpu);
    let shared = domain.shared_page;
    if shared.unmask(port) && shared.is_pending(port) {
        mark(domain, port, vcpu);
    }
    Ok(())
}

/// Whether a port is in use.
pub fn is_in_use(domain: &Domain, port: u32) -> bool {
    domain.ports.lock().get(port).is_ok()
}

/// Raises a VIRQ, if the guest bound it.
pub fn raise_virq(domain: &Domain, virq: u32, vcpu: u16) {
    let ports = domain.ports.lock();
    if let Some(port) = ports.bound_virq(virq, vcpu) {
        raise_locked(&ports, domain, port);
    }
}

/// Raises the console's event: there is input, or room.
pub fn raise_console(domain: &Domain) {
    raise_own(domain, End::Console);
}

/// Raises the store's event: there are replies, or room.
pub fn raise_store(domain: &Domain) {
    raise_own(domain, End::Store);
}

/// Raises an event on a port whose other end is the hypervisor.
fn raise_own(domain: &Domain, end: End) {
    let ports = domain.ports.lock();
    let number = ports.list.iter().position(|port| port.end == end);
    if let Some(number) = number {
        raise_locked(&ports, domain, number as u32);
    }
}
