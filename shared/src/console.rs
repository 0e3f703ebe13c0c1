//! `console_io` (`public/xen.h`) and the console ring (`public/io/console.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `console_io` command: writes `count` bytes.
pub const CONSOLEIO_WRITE: u64 = 0;
/// `console_io` command: reads up to `count` bytes. Returns the number of bytes read.
pub const CONSOLEIO_READ: u64 = 1;

/// Contents of the console ring page (`struct xencons_interface`). The indexes count bytes
/// and wrap at 2^32; the position of a byte is its index modulo the size of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsoleRing {
    /// Bytes to the guest.
    pub input: [u8; 1024],
    /// Bytes from the guest.
    pub output: [u8; 2048],
    /// Number of bytes that the guest has read from `input`.
    pub in_cons: u32,
    /// Number of bytes that the hypervisor has written to `input`.
    pub in_prod: u32,
    /// Number of bytes that the hypervisor has read from `output`.
    pub out_cons: u32,
    /// Number of bytes that the guest has written to `output`.
    pub out_prod: u32,
}
assert_layout!(ConsoleRing, size 0xc10, output @ 0x400, in_cons @ 0xc00, in_prod @ 0xc04, out_cons @ 0xc08, out_prod @ 0xc0c);
