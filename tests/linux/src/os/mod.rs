//! System calls that the standard library does not offer, behind safe functions.
//!
//! They go through `rustix`. Through `libc` go those that `rustix` has no safe form of: fork, signal
//! handlers, and the few whose pointers or variants the tests need as they are.

mod affinity;
mod child;
mod mapping;
mod signal;

pub(crate) use affinity::{move_to, processors, run_anywhere};
pub(crate) use child::{fork, wait};
pub(crate) use mapping::{Access, Mapping};
pub(crate) use signal::{reset_handler, set_handler};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
