//! `physdev_op` (`public/physdev.h`), as far as a domain without devices meets it.

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Set the caller's virtual I/O privilege level ([`SetIopl`]).
pub const PHYSDEVOP_SET_IOPL: u64 = 6;
/// Set the caller's I/O bitmap ([`SetIobitmap`]).
pub const PHYSDEVOP_SET_IOBITMAP: u64 = 7;

/// Argument of [`PHYSDEVOP_SET_IOPL`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetIopl {
    /// 0 to 3.
    pub iopl: u32,
}
assert_layout!(SetIopl, size 4);

/// Argument of [`PHYSDEVOP_SET_IOBITMAP`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetIobitmap {
    /// Address of the bitmap.
    pub bitmap: u64,
    /// Ports that it covers.
    pub nr_ports: u32,
    /// Zero.
    pub pad: u32,
}
assert_layout!(SetIobitmap, size 16, nr_ports @ 8);
