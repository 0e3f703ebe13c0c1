//! `physdev_op` (`public/physdev.h`): the commands that a domain without devices uses.

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sets the caller's virtual I/O privilege level ([`SetIopl`]).
pub const PHYSDEVOP_SET_IOPL: u64 = 6;
/// Sets the caller's I/O bitmap ([`SetIobitmap`]).
pub const PHYSDEVOP_SET_IOBITMAP: u64 = 7;

/// Argument of [`PHYSDEVOP_SET_IOPL`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetIopl {
    /// I/O privilege level, 0 to 3.
    pub iopl: u32,
}
assert_layout!(SetIopl, size 4);

/// Argument of [`PHYSDEVOP_SET_IOBITMAP`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetIobitmap {
    /// Guest address of the bitmap, one bit per port.
    pub bitmap: u64,
    /// Number of ports that the bitmap covers.
    pub nr_ports: u32,
    /// Zero.
    pub pad: u32,
}
assert_layout!(SetIobitmap, size 16, nr_ports @ 8);
