//! The buffer between those who write log records and a serial port that is slower than they are.
//!
//! **The promise.** Writing takes the time of a copy, however slow the port is. Records leave in the
//! order in which they were written, each of them whole or not at all. Room is divided in advance
//! among the [`Source`]s, so whether a record fits depends on nothing but the backlog of its own
//! source: a domain that floods the log can't make the hypervisor drop what it says of itself or of
//! another domain. What doesn't fit is counted, and a DROPPED record with the count stands where the
//! gap is.
//!
//! | file     | about                                                              |
//! |----------|--------------------------------------------------------------------|
//! | `source` | who writes, and [`Quotas`]: how much room each of them has         |
//! | `ring`   | bytes in a ring                                                    |
//! | `buffer` | [`LogBuffer`]: records, accounts of the sources, unfinished lines  |
//!
//! What it leaves to its neighbours: a lock around it, and the port.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod buffer;
mod ring;
mod source;
#[cfg(test)]
mod tests;

pub use buffer::{CANCEL, Full, Line, LogBuffer, MAX_RECORD};
pub use source::{MAX_DOMAINS, Quotas, Source};
