//! What the hypervisor is given to start, read and checked before anything is built from it.
//!
//! The boot image brings one archive. In it are a [`manifest`] and the files that the manifest
//! names. A guest kernel is an ELF image whose [`notes`] say how it wants to be started;
//! [`image`] checks it, [`layout`] plans the first address space, [`tables`] lists the page-table
//! entries of that plan, and [`start`] fills the start-of-day page.
//!
//! The promise: everything here is total. Any bytes whatever give a result or an error that names
//! the field and its value; nothing panics, nothing is touched outside the slices given, and the
//! work is bounded by the length of the input. Nothing here knows hardware: the same code runs in
//! the hypervisor and in the build tool.
//!
//! Left to others: allocating frames, copying bytes, and validating the page tables (the builder
//! has no back door; the validator checks its tables like any guest's).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod error;
pub mod image;
pub mod layout;
pub mod manifest;
pub mod notes;
pub mod size;
pub mod start;
pub mod tables;
#[cfg(test)]
mod tests;

pub use error::{ImageError, LayoutError};
pub use image::{GuestImage, Segment};
pub use layout::{Plan, Request};
pub use manifest::{Caching, DomainConfig, Exit, Isolation, Manifest, ManifestError};
