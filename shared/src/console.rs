//! `console_io` (`public/xen.h`) and the console ring (`public/io/console.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Write `count` bytes.
pub const CONSOLEIO_WRITE: u64 = 0;
/// Read up to `count` bytes.
pub const CONSOLEIO_READ: u64 = 1;

/// The console ring's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsoleRing {
    /// To the guest.
    pub input: [u8; 1024],
    /// From the guest.
    pub output: [u8; 2048],
    /// Free-running index of the guest's reads.
    pub in_cons: u32,
    /// Free-running index of the hypervisor's writes.
    pub in_prod: u32,
    /// Free-running index of the hypervisor's reads.
    pub out_cons: u32,
    /// Free-running index of the guest's writes.
    pub out_prod: u32,
}
assert_layout!(ConsoleRing, size 0xc10, output @ 0x400, in_cons @ 0xc00, in_prod @ 0xc04, out_cons @ 0xc08, out_prod @ 0xc0c);
