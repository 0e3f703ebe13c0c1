//! The guest half of Pinfold's bargain.
//!
//! A guest kernel that runs by direct paging may keep mappings lazily: vmap areas that are freed
//! in batches, kmap slots that are cached. Every one of them is a stray alias when the page behind
//! it becomes a page table, and the hypervisor refuses to pin a page table that has one. This
//! crate keeps both: laziness, and page tables that can always be pinned.
//!
//! | module | what it is |
//! |---|---|
//! | [`addr`] | machine frames, pseudo-physical frames and addresses, never mixed |
//! | [`hypercall`] | the calls that change no mapping, typed |
//! | [`platform`] | the calls that do, as a trait: the machine, or a model of it in a test |
//! | [`mmu`] | page tables, and the one place where lazy mappings are dealt with before a pin |
//! | [`vmap`] | areas of kernel addresses, cleared late, by one of six policies |
//! | [`buffer_cache`] | blocks of a disk in memory, as a file system has them, mapped lazily |
//! | [`rmap`] | from a frame to everything that maps it, and moving it away from there |
//! | [`kmap`] | single frames, mapped for a moment |
//! | [`pageable`] | objects of pages that are written to a store while nobody pins them |
//! | [`buffer`] | buffers that are copied to pageable objects when memory is short |
//! | [`dma`] | devices that write to pages, which are theirs until they are through |
//! | [`shared`] | the page shared with the hypervisor: pending events, clocks |
//! | `entry` | (feature `entry`) what a kernel needs to start: notes, traps, console, heap |
//! | `hostile` | (feature `raw`) hypercalls with nothing in between, for tests |
//!
//! A kernel is about thirty lines: see `tests/guests/hello`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod buffer;
pub mod buffer_cache;
pub mod dma;
mod entries;
#[cfg(all(feature = "entry", target_os = "none"))]
pub mod entry;
mod error;
#[cfg(all(feature = "raw", feature = "entry", target_os = "none"))]
pub mod fixtures;
mod frames;
pub mod hypercall;
pub mod kmap;
pub mod mmu;
pub mod pageable;
pub mod platform;
#[cfg(feature = "raw")]
pub mod raw;
pub mod rmap;
pub mod shared;
mod stats;
pub mod vmap;

pub use pinfold_abi as abi;
