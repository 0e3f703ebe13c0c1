//! Reserved domain numbers, `DOMID_*` (`public/xen.h`).

/// First reserved number. The number of a domain is below it.
pub const FIRST_RESERVED: u16 = 0x7ff0;
/// The calling domain.
pub const SELF: u16 = 0x7ff0;
/// Owner of I/O memory.
pub const IO: u16 = 0x7ff1;
/// Owner of the hypervisor's frames that are shared with guests.
pub const XEN: u16 = 0x7ff2;
/// Owner of copy-on-write frames. Not used for PV guests.
pub const COW: u16 = 0x7ff3;
/// No domain.
pub const INVALID: u16 = 0x7ff4;
/// Any domain, in calls that allow it.
pub const ANY: u16 = 0x7ff5;
/// The idle domain.
pub const IDLE: u16 = 0x7fff;
