//! A buffer between the code that writes log records and a serial port that is slower.
//!
//! **The promise.** Appending a record takes as long as copying it, however slow the port is.
//! Records are read in the order in which they were appended, each complete or not at all. Each
//! [`Source`] has a quota of the buffer, so whether a record fits depends only on the backlog of its
//! own source: a domain that floods the log can't make the hypervisor drop records about itself or
//! about another domain. Dropped records are counted, and a DROPPED record with the count is written
//! in their place.
//!
//! | file     | about                                                              |
//! |----------|--------------------------------------------------------------------|
//! | `source` | [`Source`] and [`Quotas`]                                          |
//! | `sizes`  | sizes of records and of what is stored with them                   |
//! | `ring`   | bytes in a ring                                                    |
//! | `buffer` | [`LogBuffer`]: records, accounts of the sources, incomplete lines  |
//!
//! Left to the callers: a lock around the buffer, and the port.
//!
//! ```
//! use pinfold_log::{LogBuffer, Quotas, Source};
//!
//! const SIZE: usize = 32 * 1024;
//! let mut log = LogBuffer::<SIZE>::new();
//! log.set_quotas(Quotas::divide(SIZE, 2));
//!
//! let record = b"[   0.000012] d1 MARK text=\"ready\"\r\n";
//! log.append(12, Source::Reports(1), record).expect("the buffer is empty");
//!
//! let mut out = [0; 64];
//! let count = log.read(&mut out);
//! assert_eq!(&out[..count], record);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

mod buffer;
mod ring;
mod sizes;
mod source;
#[cfg(test)]
mod tests;

pub use buffer::{ConsoleLine, Full, LogBuffer};
pub use sizes::{CANCEL, MAX_RECORD};
pub use source::{MAX_DOMAINS, Quotas, Source};
