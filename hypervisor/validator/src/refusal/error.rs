//! How an operation ends that did not do what was asked.

use super::record::Refusal;
use core::fmt;

/// Why an operation ended without doing what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not allowed. Nothing was done.
    Refused(Refusal),
    /// The budget is used up, or another CPU is working on the same frame. Call again: the operation
    /// resumes. No reference was taken. The progress is kept in the frames, and undone by the next
    /// operation that needs them, so that it is safe not to call again.
    Preempted,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Preempted => f.write_str("preempted: to be asked again"),
        }
    }
}
