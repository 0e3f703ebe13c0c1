//! A domain's event channel ports: what each is bound to, and the vCPU that gets its events.

use alloc::vec::Vec;
use pinfold_abi::errno::Errno;
use pinfold_abi::event::*;
use pinfold_validator::DomId;

/// The other end of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The port is free.
    Free,
    /// Unbound: this domain may bind to it.
    Unbound(DomId),
    /// Interdomain: a port of a domain.
    Port(DomId, u32),
    /// A virtual interrupt.
    Virq(u32),
    /// An IPI between the domain's own vCPUs.
    Ipi,
    /// The hypervisor's console.
    Console,
    /// The hypervisor's store.
    Store,
}

/// A port that is in use, or [`FREE`].
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The other end.
    pub end: End,
    /// The vCPU that gets its events.
    pub vcpu: u16,
}

/// Heap bytes of a domain's ports.
pub const HEAP_BYTES: usize = PORTS as usize * size_of::<Port>();

/// A port that isn't in use.
pub const FREE: Port = Port { end: End::Free, vcpu: 0 };

/// The ports of a domain. The list grows up to the ABI's limit, for which it has room from the
/// beginning.
#[derive(Debug)]
pub struct Ports {
    pub(super) list: Vec<Port>,
}

/// Whether a VIRQ is bound per vCPU.
pub fn is_per_vcpu(virq: u32) -> bool {
    matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

impl Ports {
    /// No ports, with room for all. Allocates, so only while a domain is built.
    pub fn new() -> Ports {
        Ports { list: Vec::with_capacity(PORTS as usize) }
    }

    /// A port that is in use.
    ///
    /// # Errors
    /// EINVAL if it isn't.
    pub fn get(&self, port: u32) -> Result<Port, Errno> {
        match self.list.get(port as usize) {
            Some(found) if found.end != End::Free => Ok(*found),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes the lowest free port.
    ///
    /// # Errors
    /// ENOSPC if all are in use.
    pub fn allocate(&mut self, end: End, vcpu: u16) -> Result<u32, Errno> {
        let free = self.list.iter().skip(1).position(|port| port.end == End::Free);
        let number = match free {
            Some(index) => index + 1,
            None => {
                let number = self.list.len().max(1);
                if number >= PORTS as usize {
                    return Err(Errno::ENOSPC);
                }
                // Within the capacity: `number` is less than `PORTS`.
                self.list.resize(number + 1, FREE);
                number
            }
        };
        self.list[number] = Port { end, vcpu };
        Ok(number as u32)
    }

    /// The port to which a VIRQ is bound.
    pub fn bound_virq(&self, virq: u32, vcpu: u16) -> Option<u32> {
        let bound =
            |port: &Port| port.end == End::Virq(virq) && (port.vcpu == vcpu || !is_per_vcpu(virq));
        self.list.iter().position(bound).map(|number| number as u32)
    }
}
