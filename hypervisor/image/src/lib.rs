//! What the hypervisor starts: the boot manifest and guest kernels, read and checked before anything is
//! built from them.
//!
//! The boot image contains one archive with a [`manifest`] and the files that the manifest names. A
//! guest kernel is an ELF file whose [`notes`] say how to start it. [`image`] checks it, [`layout`]
//! lays out the guest's first address space, [`table_layout`] lists the page-table entries for it, and
//! [`start_info`] fills the start-of-day page.
//!
//! **The promise.** Any bytes give a result or an error that names the field and its value. Nothing
//! panics, and the work is bounded by the length of the input. Nothing here depends on hardware: the
//! same code runs in the hypervisor and in the build tool.
//!
//! Left to the callers: allocating frames, copying bytes, and validating the page tables (the
//! validator checks those of the domain builder like any guest's).
//!
//! | file           | about                                                        |
//! |----------------|--------------------------------------------------------------|
//! | `manifest`     | [`Manifest`]: domains, and how the machine ends              |
//! | `size`         | sizes in manifests and on the command line                   |
//! | `notes`        | ELF notes and the older section `__xen_guest`                |
//! | `image`        | [`GuestImage`]: a checked ELF file                           |
//! | `layout`       | [`GuestLayout`]: which pfns hold what                        |
//! | `table_layout` | the page tables of that layout                               |
//! | `start_info`   | the start-of-day page                                        |
//! | `error`        | why an image or a layout is refused                          |
//!
//! ```
//! use pinfold_image::{Exit, Manifest, ManifestError};
//!
//! let manifest = Manifest::parse(b"
//!     exit = { debug-exit = 0xf4 }
//!     [[domain]]
//!     name = 'hello'
//!     kernel = 'hello.elf'
//!     memory = '64M'
//! ")?;
//! assert_eq!(manifest.exit, Exit::DebugExit(0xf4));
//! assert_eq!(manifest.domains[0].pages(), 16384);
//!
//! let error = Manifest::parse(b"domain = []").unwrap_err();
//! assert_eq!(error.to_string(), "pinfold.toml: domain: there are 0; there must be 1 to 64");
//! # Ok::<(), ManifestError>(())
//! ```
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
pub mod start_info;
pub mod table_layout;
#[cfg(test)]
mod tests;

pub use error::{ImageError, LayoutError};
pub use image::{GuestImage, Segment};
pub use layout::{GuestLayout, LayoutRequest};
pub use manifest::{
    CachePolicy, Container, DomainConfig, Exit, Isolation, Manifest, ManifestError,
};
