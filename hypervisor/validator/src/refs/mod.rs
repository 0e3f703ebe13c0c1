//! References: of frames, of their types, and of what a page-table entry points to.
//!
//! Each has a fast path, inlined, for the case that is nearly all cases, and a slow one behind it
//! that knows all of them.
//!
//! | file      | takes and drops                                                          |
//! |-----------|--------------------------------------------------------------------------|
//! | `memtype` | a general reference, for a use with one memory type                       |
//! | `types`   | a type reference; the first one of a table promotes it                    |
//! | `entries` | what one entry of each level holds                                        |
//!
//! Promotion ([`crate::promote`]) takes what the entries of a table hold, and so comes back here, one
//! level down at a time.

mod entries;
mod memtype;
mod types;
