//! Why an operation on mappings or page tables failed.

use crate::addr::{Pfn, Vaddr};
use crate::hypercall::Errno;

/// Why an operation on mappings or page tables failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No free frame, even after all lazy mappings were cleared.
    NoFrame,
    /// No free range of addresses, or no free slot.
    NoRoom,
    /// The frame is mapped at this address by somebody who still uses the mapping: it can't become
    /// a page table.
    InUse(Vaddr),
    /// A device may still write to the frame: it can't become a page table.
    InIo {
        /// The frame.
        frame: Pfn,
        /// The name of who pinned it.
        holder: &'static str,
    },
    /// Nothing suitable is mapped at this address.
    NotMapped(Vaddr),
    /// The hypervisor refused.
    Refused(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

impl From<pinfold_abi::errno::Errno> for Error {
    fn from(errno: pinfold_abi::errno::Errno) -> Error {
        Error::Refused(errno.into())
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NoFrame => f.write_str("no free frame"),
            Error::NoRoom => f.write_str("no free addresses"),
            Error::InUse(va) => write!(f, "the frame is in use at {va}"),
            Error::InIo { frame, holder } => write!(f, "{holder} holds frame {frame}"),
            Error::NotMapped(va) => write!(f, "nothing is mapped at {va}"),
            Error::Refused(errno) => write!(f, "the hypervisor refused: {errno}"),
        }
    }
}
