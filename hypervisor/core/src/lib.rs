//! Memory of domains: allocation of frames, grants, and teardown. No hardware access.
//!
//! The validator decides what a guest may do to a frame. This crate is the layer above it: which frames
//! are free, which are the hypervisor's own, and what domains grant each other. It accesses the machine
//! through [`Platform`](pinfold_validator::Platform) and [`FrameWords`](grant::pages::FrameWords), so
//! that all of it runs in unit tests.
//!
//! | module     | about                                                                   |
//! |------------|-------------------------------------------------------------------------|
//! | `teardown` | a domain's end: every reference dropped, every frame freed              |
//! | `grant`    | frames that domains grant each other, and mappings of these             |
//! | `canaries` | frames of the hypervisor's own that are checked for writes by guests    |
//! | `asid`     | ASIDs of guests in the hardware container, one space a CPU              |
//! | `frames`   | allocates and frees frames, for domains and the hypervisor              |
//! | `bitmap`   | the set of free frames                                                  |
//! | `list`     | progress of hypercalls that work through a guest's list                 |
//!
//! Unit tests are in `src/tests`, over a machine whose CPUs keep every translation until they are flushed,
//! and write through all of them all the time.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

pub mod asid;
mod bitmap;
pub mod canaries;
pub mod frames;
pub mod grant;
pub mod list;
pub mod teardown;

pub use asid::{AsidSpace, Assigned, VcpuAsid};
pub use bitmap::FrameBitmap;
pub use canaries::Canaries;
pub use frames::{FrameAllocator, ReservedFrames};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
