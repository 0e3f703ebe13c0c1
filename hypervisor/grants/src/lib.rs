//! Bookkeeping of granted frames: what a domain grants, who uses it, and by which handle.
//!
//! A domain grants a frame by writing an entry of its grant table. The table lies in frames that
//! the domain shares with the hypervisor, so the domain may write anything there at any moment.
//! How often each grant is used is counted where no guest can write: in storage that the caller
//! provides ([`WordArray`]).
//!
//! **The promise.** A grant is used only by the domain that its entry named, for writing only if
//! the entry allowed it, and always as the same frame from the first of overlapping uses to the
//! last, whatever the guest writes meanwhile. While an entry is in use its `GTF_reading` and
//! `GTF_writing` flags are set (`public/grant_table.h`).
//!
//! | file         | about                                                          |
//! |--------------|----------------------------------------------------------------|
//! | `entry`      | an entry of the table as one word                              |
//! | `table`      | [`GrantTable`]: a granter's entries and their use counts       |
//! | `maptrack`   | [`Maptrack`]: a mapping domain's handles                       |
//! | `word_array` | [`WordArray`]: storage                                         |
//!
//! Left to the callers: who owns a frame and whether it may be mapped (the validator decides),
//! mapping, flushing TLBs, and locks. Methods that change anything take `&mut self`.
//!
//! ```
//! use core::sync::atomic::{AtomicU64, Ordering};
//! use pinfold_abi::address::Mfn;
//! use pinfold_abi::grant::Status;
//! use pinfold_grants::GrantTable;
//!
//! // Four entries, and two words of use counts for each.
//! let entries = [const { AtomicU64::new(0) }; 4];
//! let use_counts = [const { AtomicU64::new(0) }; 8];
//! let mut table = GrantTable::new(entries, use_counts);
//!
//! // The guest grants frame 0x77 to domain 2: type "permit access", read-only.
//! table.entries()[1].store(0x77 << 32 | 2 << 16 | 1 << 2 | 1, Ordering::Relaxed);
//!
//! assert_eq!(table.acquire(1, 2, false), Ok(Mfn::new(0x77)));
//! assert_eq!(table.acquire(1, 2, true), Err(Status::GeneralError), "read-only");
//! assert_eq!(table.acquire(1, 3, false), Err(Status::GeneralError), "granted to domain 2");
//! table.release(1, false);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

mod entry;
mod maptrack;
mod table;
#[cfg(test)]
mod tests;
mod word_array;

pub use maptrack::{Maptrack, MaptrackEntry};
pub use table::{GrantTable, WORDS_PER_ENTRY};
pub use word_array::WordArray;
