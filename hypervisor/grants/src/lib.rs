//! Bookkeeping of lent frames, with no hardware in it.
//!
//! A domain grants by writing an entry of its table, which lies in frames that it shares with the
//! hypervisor; it may write anything there at any moment. Who uses a grant is kept where no guest
//! reaches, in words that the caller provides ([`Words`]).
//!
//! **The promise.** A grant is used only by the domain that the entry named, only for writing if
//! the entry allowed it, and as one frame from its first use to its last, whatever the guest
//! writes meanwhile. Each use is ended once. Entries in use are marked so, until the last use
//! ends.
//!
//! | file      | about                                                          |
//! |-----------|----------------------------------------------------------------|
//! | `entry`   | an entry of the table as one word                              |
//! | `table`   | [`Table`]: a granter's entries and their uses                  |
//! | `handles` | [`Handles`]: a borrower's mappings, by the numbers it knows    |
//! | `words`   | where words are                                                |
//!
//! What it leaves to its neighbours: whose a frame is and whether it may be had (the validator's
//! say), mapping, flushing, locks. Methods that change anything take `&mut self`: one at a time.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod entry;
mod handles;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use handles::{Handles, Mapping};
pub use table::{Table, WORDS_PER_ENTRY};
pub use words::Words;
