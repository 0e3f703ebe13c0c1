//! `event_channel_op`, two-level ABI (`public/event_channel.h`, `public/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ports of a 64-bit domain, 0 among them, which is never valid.
pub const PORTS: u32 = 4096;

/// Per-vCPU virtual interrupt: a timer fired.
pub const VIRQ_TIMER: u32 = 0;
/// Per-vCPU virtual interrupt: dump your state.
pub const VIRQ_DEBUG: u32 = 1;
/// Global virtual interrupt: the console has input, for the domain that is in charge.
pub const VIRQ_CONSOLE: u32 = 2;
/// Global virtual interrupt: something happened to a domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Per-vCPU virtual interrupt: profiling.
pub const VIRQ_XENOPROF: u32 = 7;
/// Per-vCPU virtual interrupt: performance counters.
pub const VIRQ_XENPMU: u32 = 13;
/// Number of virtual interrupts.
pub const NR_VIRQS: u32 = 24;

/// Connect to a port that another domain offered: [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u64 = 0;
/// Receive a virtual interrupt: [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u64 = 1;
/// Receive a physical interrupt.
pub const EVTCHNOP_BIND_PIRQ: u64 = 2;
/// Give a port up: [`PortArg`].
pub const EVTCHNOP_CLOSE: u64 = 3;
/// Raise an event at the other end: [`PortArg`].
pub const EVTCHNOP_SEND: u64 = 4;
/// What a port is: [`Status`].
pub const EVTCHNOP_STATUS: u64 = 5;
/// Offer a port to a domain: [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;
/// A port for events between the domain's own vCPUs: [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u64 = 7;
/// Which vCPU a port's events go to: [`BindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u64 = 8;
/// Clear a port's mask bit, and deliver what came meanwhile: [`PortArg`].
pub const EVTCHNOP_UNMASK: u64 = 9;
/// Close all ports: [`Reset`].
pub const EVTCHNOP_RESET: u64 = 10;
/// FIFO ABI: not offered.
pub const EVTCHNOP_INIT_CONTROL: u64 = 11;
/// FIFO ABI: not offered.
pub const EVTCHNOP_EXPAND_ARRAY: u64 = 12;
/// FIFO ABI: not offered.
pub const EVTCHNOP_SET_PRIORITY: u64 = 13;

/// [`Status::status`]: not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// [`Status::status`]: offered, nobody at the other end.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// [`Status::status`]: connected to another port.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// [`Status::status`]: a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// [`Status::status`]: a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// [`Status::status`]: between the domain's own vCPUs.
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
        /// Domain at the other end.
        remote_dom: u16,
        /// Zero.
        pad: u16,
        /// Its port.
        remote_port: u32,
        /// Out: the caller's port.
        local_port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_VIRQ`].
    BindVirq, size 12 {
        /// `VIRQ_*`.
        virq: u32,
        /// Which vCPU gets it; 0 for global ones.
        vcpu: u32,
        /// Out: the port.
        port: u32,
    }
);
argument!(
    /// Argument of close, send and unmask.
    PortArg, size 4 {
        /// The port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_STATUS`].
    Status, size 24 {
        /// Whose port.
        dom: u16,
        /// Zero.
        pad: u16,
        /// The port.
        port: u32,
        /// Out: `EVTCHNSTAT_*`.
        status: u32,
        /// Out: vCPU that gets its events.
        vcpu: u32,
        /// Out: the domain that may bind or is bound (low 16 bits), or the virtual interrupt.
        detail: u32,
        /// Out: the port at the other end.
        remote_port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_ALLOC_UNBOUND`].
    AllocUnbound, size 8 {
        /// Domain that gets the port.
        dom: u16,
        /// Domain that may bind to it.
        remote_dom: u16,
        /// Out: the port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_IPI`].
    BindIpi, size 8 {
        /// vCPU that gets the events.
        vcpu: u32,
        /// Out: the port.
        port: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_BIND_VCPU`].
    BindVcpu, size 8 {
        /// The port.
        port: u32,
        /// vCPU that gets its events from now on.
        vcpu: u32,
    }
);
argument!(
    /// Argument of [`EVTCHNOP_RESET`].
    Reset, size 2 {
        /// Whose ports.
        dom: u16,
    }
);
