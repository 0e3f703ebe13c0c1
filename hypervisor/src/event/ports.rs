//! Operations on a domain's ports.

use super::delivery::{mark, raise_port};
use super::port_table::{End, FREE, Port, Ports, is_per_vcpu};
use crate::domain::{self, Domain};
use pinfold_abi::errno::Errno;
use pinfold_abi::event::*;
use pinfold_validator::DomId;

/// Raises an event on a port of the domain whose ports these are. They are locked meanwhile,
/// so the domain can't be at its end ([`reset`] was not yet there) and has its shared page.
fn raise_locked(ports: &Ports, domain: &Domain, port: u32) {
    if let Ok(found) = ports.get(port) {
        raise_port(domain, port, found.vcpu);
    }
}

/// Checks a vCPU number of the guest's.
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

/// Offers a port to a domain.
///
/// # Errors
/// ENOSPC if all are in use.
pub fn alloc_unbound(domain: &Domain, remote: DomId) -> Result<u32, Errno> {
    let port = domain.ports.lock().allocate(End::Unbound(remote), 0)?;
    domain.shared_page.clear_pending(port);
    Ok(port)
}

/// Binds a virtual interrupt.
///
/// # Errors
/// EINVAL for a number there is not, or a global one elsewhere than on vCPU 0; ENOENT for a vCPU
/// there is not; EEXIST if it is bound; ENOSPC if all ports are in use.
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

/// Takes a port for events between the domain's own vCPUs.
///
/// # Errors
/// ENOENT for a vCPU there is not, ENOSPC if all ports are in use.
pub fn bind_ipi(domain: &Domain, vcpu: u32) -> Result<u32, Errno> {
    let vcpu = check_vcpu(domain, vcpu)?;
    let port = domain.ports.lock().allocate(End::Ipi, vcpu)?;
    domain.shared_page.clear_pending(port);
    Ok(port)
}

/// Connects to a port that another domain, or the same, offered.
///
/// # Errors
/// ESRCH for a domain there is not, EINVAL if the port isn't offered to the caller, ENOSPC if all
/// are in use.
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

/// What the other end sent before is not lost: the new port starts pending.
fn start_pending(ports: &Ports, domain: &Domain, port: u32) {
    domain.shared_page.clear_pending(port);
    raise_locked(ports, domain, port);
}

/// Gives a port up; the other end becomes unbound.
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
        // Both may close at once, and the number may be in use for something else by now.
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
        // Those that aren't in use are none.
        let _ = close(domain, port);
    }
}

/// What [`send`] found at the other end, beyond events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing that needs more.
    Done,
    /// The hypervisor's console: it has something to look at.
    Console,
    /// The hypervisor's store: likewise.
    Store,
}

/// Raises an event at the other end of a port.
///
/// # Errors
/// EINVAL if there is no such port, or its events don't come from the guest.
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

/// What a port is; `None` if it isn't in use.
///
/// # Errors
/// EINVAL for a number that no port can have.
pub fn status(domain: &Domain, port: u32) -> Result<Option<Port>, Errno> {
    if port >= PORTS {
        return Err(Errno::EINVAL);
    }
    Ok(domain.ports.lock().get(port).ok())
}

/// Directs a port's events to another vCPU.
///
/// # Errors
/// ENOENT for a vCPU there is not; EINVAL for a port that isn't in use, or belongs to a vCPU by
/// its nature.
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

/// Clears a port's mask, and delivers what came while it was masked. A port that isn't in use has
/// a mask too.
///
/// # Errors
/// EINVAL for a number that no port can have.
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

/// Whether a poll may name a port.
pub fn is_in_use(domain: &Domain, port: u32) -> bool {
    domain.ports.lock().get(port).is_ok()
}

/// Raises a virtual interrupt, if the guest bound it.
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

/// Raises the event of a port whose other end is the hypervisor.
fn raise_own(domain: &Domain, end: End) {
    let ports = domain.ports.lock();
    let number = ports.list.iter().position(|port| port.end == end);
    if let Some(number) = number {
        raise_locked(&ports, domain, number as u32);
    }
}
