//! The messages (`public/io/xs_wire.h`).

use crate::fixed::Full;
use core::fmt;

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// Bytes that may follow it.
pub const MAX_PAYLOAD: usize = 4096;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `XS_*`.
    pub kind: u32,
    /// The guest's number for the request; the reply has it too.
    pub request: u32,
    /// Transaction; 0: none.
    pub transaction: u32,
    /// Bytes that follow.
    pub length: u32,
}

impl Header {
    /// Reads a header.
    pub fn read(bytes: &[u8; HEADER]) -> Header {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Header { kind: word(0), request: word(4), transaction: word(8), length: word(12) }
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [self.kind, self.request, self.transaction, self.length];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Types of messages, `XS_*`.
pub mod kind {
    #![expect(missing_docs, reason = "the names are the specification's")]
    pub const CONTROL: u32 = 0;
    pub const DIRECTORY: u32 = 1;
    pub const READ: u32 = 2;
    pub const GET_PERMS: u32 = 3;
    pub const WATCH: u32 = 4;
    pub const UNWATCH: u32 = 5;
    pub const TRANSACTION_START: u32 = 6;
    pub const TRANSACTION_END: u32 = 7;
    pub const INTRODUCE: u32 = 8;
    pub const RELEASE: u32 = 9;
    pub const GET_DOMAIN_PATH: u32 = 10;
    pub const WRITE: u32 = 11;
    pub const MKDIR: u32 = 12;
    pub const RM: u32 = 13;
    pub const SET_PERMS: u32 = 14;
    pub const WATCH_EVENT: u32 = 15;
    pub const ERROR: u32 = 16;
    pub const IS_DOMAIN_INTRODUCED: u32 = 17;
    pub const RESUME: u32 = 18;
    pub const SET_TARGET: u32 = 19;
    pub const RESET_WATCHES: u32 = 21;
    pub const DIRECTORY_PART: u32 = 22;
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not for this domain.
    Access,
    /// The tree has changed under a transaction.
    Again,
    /// A transaction in a transaction.
    Busy,
    /// There already.
    Exists,
    /// Makes no sense.
    Invalid,
    /// Not there.
    NoEntry,
    /// More than a quota allows.
    NoSpace,
    /// No such request.
    NoSystemCall,
    /// The node's owner can't be changed.
    NotPermitted,
    /// More than a reply can hold, or too many watches.
    TooBig,
}

impl Error {
    /// The name that the guest is told.
    pub const fn name(self) -> &'static str {
        match self {
            Error::Access => "EACCES",
            Error::Again => "EAGAIN",
            Error::Busy => "EBUSY",
            Error::Exists => "EEXIST",
            Error::Invalid => "EINVAL",
            Error::NoEntry => "ENOENT",
            Error::NoSpace => "ENOSPC",
            Error::NoSystemCall => "ENOSYS",
            Error::NotPermitted => "EPERM",
            Error::TooBig => "E2BIG",
        }
    }
}

/// A reply is written into the room of one message.
impl From<Full> for Error {
    fn from(Full: Full) -> Error {
        Error::TooBig
    }
}

/// The same for what is formatted into it.
impl From<fmt::Error> for Error {
    fn from(fmt::Error: fmt::Error) -> Error {
        Error::TooBig
    }
}
