//! Why an operation on a buffer failed.

use super::id::BufferId;
use crate::addr::Pfn;
use crate::{mmu, pageable};

/// When a page was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// While the buffer was used.
    Use,
    /// While it was copied out.
    Out,
    /// While it was copied back.
    Back,
}

/// A page whose words changed: something else wrote to its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The buffer.
    pub buffer: BufferId,
    /// Which of its pages.
    pub page: u64,
    /// The frame that the wrong word is in.
    pub frame: Pfn,
    /// When that was found.
    pub moment: Moment,
    /// The checksum of what was written.
    pub wanted: u64,
    /// The checksum of what is there.
    pub found: u64,
}

impl Corrupt {
    pub(super) fn unless(right: bool, corrupt: impl FnOnce() -> Corrupt) -> Result<(), Error> {
        if right { Ok(()) } else { Err(Error::Corrupt(corrupt())) }
    }
}

impl core::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Corrupt { buffer, page, frame, moment, wanted, found } = self;
        let when = match moment {
            Moment::Use => "in use",
            Moment::Out => "copied out",
            Moment::Back => "copied back",
        };
        write!(
            f,
            "page {page} of buffer {buffer}, {when}: frame {frame} has the checksum {found:#x} \
             instead of {wanted:#x}"
        )
    }
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no such buffer.
    Gone(BufferId),
    /// The words of a page changed.
    Corrupt(Corrupt),
    /// The mappings' owner has no room, or the hypervisor refused.
    Mmu(mmu::Error),
    /// The storage has no room.
    Storage(pageable::Error),
}

impl From<mmu::Error> for Error {
    fn from(error: mmu::Error) -> Error {
        Error::Mmu(error)
    }
}

impl From<pageable::Error> for Error {
    fn from(error: pageable::Error) -> Error {
        Error::Storage(error)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Gone(id) => write!(f, "there is no buffer {id}"),
            Error::Corrupt(corrupt) => corrupt.fmt(f),
            Error::Mmu(error) => error.fmt(f),
            Error::Storage(error) => error.fmt(f),
        }
    }
}
