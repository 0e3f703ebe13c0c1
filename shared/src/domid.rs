//! Domain numbers with a meaning of their own (`public/xen.h`).

/// First number that no ordinary domain has.
pub const FIRST_RESERVED: u16 = 0x7ff0;
/// The calling domain.
pub const SELF: u16 = 0x7ff0;
/// Owner of I/O memory.
pub const IO: u16 = 0x7ff1;
/// Owner of the hypervisor's own frames that guests may see.
pub const XEN: u16 = 0x7ff2;
/// Copy-on-write owner; unused by PV guests.
pub const COW: u16 = 0x7ff3;
/// No domain.
pub const INVALID: u16 = 0x7ff4;
/// Any domain, where a call allows it.
pub const ANY: u16 = 0x7ff5;
/// The idle domain.
pub const IDLE: u16 = 0x7fff;
