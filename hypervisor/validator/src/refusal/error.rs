//! How an operation ends that did not do what was asked.

use super::record::Refusal;
use core::fmt;

/// Why an operation ended without doing what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It may not be done. Nothing was done.
    Refused(Refusal),
    /// The budget is used up, or another CPU is at the same frame. Ask again: it goes on where it
    /// was. No reference was given; what was done so far is kept in the frames and cleaned up by
    /// whoever needs them, so that it's safe not to ask again.
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
