//! The payload of the loader `pinfold-loader`: what it gets as its one module.
//!
//! A page with the header, the hypervisor's ELF file, and the boot archive, each at the start of a
//! page.

use crate::assert_layout;
use crate::layout::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Header::magic`].
pub const MAGIC: [u8; 8] = *b"PINFOLD\0";

/// The start of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Size of the hypervisor's ELF file in bytes. It begins a page after the header.
    pub kernel_bytes: u64,
    /// Size of the boot archive in bytes. It begins at the first page boundary behind the file.
    pub archive_bytes: u64,
}
assert_layout!(Header, size 24, kernel_bytes @ 8, archive_bytes @ 16);

impl Header {
    /// Offset of the hypervisor's ELF file in bytes.
    pub const KERNEL: u64 = PAGE_SIZE;

    /// Offset of the boot archive in bytes. `None` if there is no such number.
    #[must_use]
    pub fn archive(&self) -> Option<u64> {
        Self::KERNEL.checked_add(self.kernel_bytes)?.checked_next_multiple_of(PAGE_SIZE)
    }

    /// Size of the whole payload in bytes. `None` if there is no such number.
    #[must_use]
    pub fn payload_bytes(&self) -> Option<u64> {
        self.archive()?.checked_add(self.archive_bytes)
    }
}
