//! Messages as they are sent (`public/io/xs_wire.h`).

use crate::fixed_vec::Full;
use core::fmt;
use strum::{FromRepr, IntoStaticStr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a message's header.
pub const HEADER: usize = size_of::<Header>();
/// Most bytes that may follow the header (`XENSTORE_PAYLOAD_MAX`).
pub const MAX_PAYLOAD: usize = 4 << 10;

/// The header of a message (`struct xsd_sockmsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Header {
    /// Type: a [`MessageType`], or a number that is none.
    pub kind: u32,
    /// Chosen by the guest; the reply has the same.
    pub request: u32,
    /// Transaction; 0: none.
    pub transaction: u32,
    /// Bytes that follow the header.
    pub length: u32,
}

impl Header {
    /// Decodes a header.
    pub const fn from_bytes(bytes: &[u8; HEADER]) -> Header {
        zerocopy::transmute!(*bytes)
    }

    /// Encodes the header.
    pub const fn to_bytes(self) -> [u8; HEADER] {
        zerocopy::transmute!(self)
    }
}

/// Types of messages, `XS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRepr)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum MessageType {
    Control = 0,
    Directory = 1,
    Read = 2,
    GetPerms = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Introduce = 8,
    Release = 9,
    GetDomainPath = 10,
    Write = 11,
    Mkdir = 12,
    Rm = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
    IsDomainIntroduced = 17,
    Resume = 18,
    SetTarget = 19,
    ResetWatches = 21,
    DirectoryPart = 22,
}

impl From<MessageType> for u32 {
    fn from(message: MessageType) -> u32 {
        message as u32
    }
}

/// Why a request failed. Replies carry the name (`xsd_errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Error {
    /// The domain may not do this.
    #[strum(serialize = "EACCES")]
    Access,
    /// The tree has changed since the transaction began.
    #[strum(serialize = "EAGAIN")]
    Again,
    /// A transaction was started within a transaction.
    #[strum(serialize = "EBUSY")]
    Busy,
    /// The watch exists already.
    #[strum(serialize = "EEXIST")]
    Exists,
    /// The request is malformed.
    #[strum(serialize = "EINVAL")]
    Invalid,
    /// No such node, watch or transaction.
    #[strum(serialize = "ENOENT")]
    NoEntry,
    /// A quota is used up.
    #[strum(serialize = "ENOSPC")]
    NoSpace,
    /// No such request.
    #[strum(serialize = "ENOSYS")]
    NoSystemCall,
    /// The owner of a node can't be changed.
    #[strum(serialize = "EPERM")]
    NotPermitted,
    /// The reply would be longer than [`MAX_PAYLOAD`], or there are too many watches.
    #[strum(serialize = "E2BIG")]
    TooBig,
}

impl Error {
    /// The name that the guest receives, such as `ENOENT`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A reply is written into a buffer of one message, so a full buffer means that it is too long.
impl From<Full> for Error {
    fn from(Full: Full) -> Error {
        Error::TooBig
    }
}

/// The same for what is formatted into the buffer.
impl From<fmt::Error> for Error {
    fn from(fmt::Error: fmt::Error) -> Error {
        Error::TooBig
    }
}
