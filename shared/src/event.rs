//! `event_channel_op`, two-level ABI (`public/event_channel.h`, `public/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of ports of a 64-bit domain, including port 0, which is never valid.
pub const PORTS: u32 = 4096;

/// Per-vCPU virtual interrupt: a timer of the vCPU expired.
pub const VIRQ_TIMER: u32 = 0;
/// Per-vCPU virtual interrupt: the guest is asked to dump its state.
pub const VIRQ_DEBUG: u32 = 1;
/// Global virtual interrupt: the console has input. For the control domain.
pub const VIRQ_CONSOLE: u32 = 2;
/// Global virtual interrupt: the state of a domain changed. For the control domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Per-vCPU virtual interrupt: a XenOprofile sample.
pub const VIRQ_XENOPROF: u32 = 7;
/// Per-vCPU virtual interrupt: a performance counter overflowed.
pub const VIRQ_XENPMU: u32 = 13;
/// Number of virtual interrupts; valid numbers are below it.
pub const NR_VIRQS: u32 = 24;

/// Connects to a port that another domain allocated: [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u64 = 0;
/// Allocates a port for a virtual interrupt: [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u64 = 1;
/// Allocates a port for a physical interrupt.
pub const EVTCHNOP_BIND_PIRQ: u64 = 2;
/// Closes a port: [`PortArg`].
pub const EVTCHNOP_CLOSE: u64 = 3;
/// Sends an event to the other end: [`PortArg`].
pub const EVTCHNOP_SEND: u64 = 4;
/// Returns the state of a port: [`Status`].
pub const EVTCHNOP_STATUS: u64 = 5;
/// Allocates a port that a domain may bind to: [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;
/// Allocates a port for events between vCPUs of the domain: [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u64 = 7;
/// Sets the vCPU that is notified of a port's events: [`BindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u64 = 8;
/// Clears the mask bit of a port and delivers a pending event: [`PortArg`].
pub const EVTCHNOP_UNMASK: u64 = 9;
/// Closes all ports of a domain: [`Reset`].
pub const EVTCHNOP_RESET: u64 = 10;
/// FIFO ABI: not supported.
pub const EVTCHNOP_INIT_CONTROL: u64 = 11;
/// FIFO ABI: not supported.
pub const EVTCHNOP_EXPAND_ARRAY: u64 = 12;
/// FIFO ABI: not supported.
pub const EVTCHNOP_SET_PRIORITY: u64 = 13;

/// [`Status::status`]: free.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// [`Status::status`]: allocated, not connected.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// [`Status::status`]: connected to another port.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// [`Status::status`]: bound to a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// [`Status::status`]: bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// [`Status::status`]: for events between vCPUs of the domain.
pub const EVTCHNSTAT_IPI: u32 = 5;

macro_rules! argument {
    ($(#[$doc:meta])* $name:ident, size $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        assert_layout!($name, size $size);
    };
}

argument!(
    /// Argument of [`EVTCHNOP_BIND_INTERDOMAIN`].
    BindInterdomain, size 12 {
        /// Domain that allocated the remote port.
        remote_dom: u16,
        /// Zero.
        pad: u16,
        /// Remote port.
        remote_port: u32,
        /// Out: local port.
        local_port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_VIRQ`].
    BindVirq, size 12 {
        /// `VIRQ_*`.
        virq: u32,
        /// vCPU that is notified; 0 for a global virtual interrupt.
        vcpu: u32,
        /// Out: allocated port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_CLOSE`], [`EVTCHNOP_SEND`] and [`EVTCHNOP_UNMASK`].
    PortArg, size 4 {
        /// The port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_STATUS`].
    Status, size 24 {
        /// Domain that the port belongs to.
        dom: u16,
        /// Zero.
        pad: u16,
        /// The port.
        port: u32,
        /// Out: `EVTCHNSTAT_*`.
        status: u32,
        /// Out: vCPU that is notified.
        vcpu: u32,
        /// Out: domain that may bind or is connected (low 16 bits), or the virtual interrupt.
        detail: u32,
        /// Out: remote port.
        remote_port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_ALLOC_UNBOUND`].
    AllocUnbound, size 8 {
        /// Domain in which the port is allocated.
        dom: u16,
        /// Domain that may bind to it.
        remote_dom: u16,
        /// Out: allocated port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_IPI`].
    BindIpi, size 8 {
        /// vCPU that is notified.
        vcpu: u32,
        /// Out: allocated port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_VCPU`].
    BindVcpu, size 8 {
        /// The port.
        port: u32,
        /// vCPU that is notified from now on.
        vcpu: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_RESET`].
    Reset, size 2 {
        /// Domain whose ports are closed.
        dom: u16,
    }
);
