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
//! | [`hypercall`] | the calls, typed |
//! | `entry` | (feature `entry`) what a kernel needs to start: notes, traps, console, heap |
//!
//! A kernel is about thirty lines: see `tests/guests/hello`.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod addr;
#[cfg(feature = "entry")]
pub mod entry;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod hypercall;

pub use pinfold_abi as abi;
