//! What the hypervisor does with memory on behalf of guests, with no hardware in it.
//!
//! The validator decides what a guest may do to a frame; this crate is the layer above it: which
//! frames are free, which are the hypervisor's own, and what domains grant each other. The machine
//! is reached through [`Platform`](pinfold_validator::Platform) and
//! [`FrameWords`](grant::pages::FrameWords), so all of it runs in a test, over a model of each CPU's
//! TLB (`tests`).
//!
//! | module   | about                                                             |
//! |----------|-------------------------------------------------------------------|
//! | `frames` | the free frames: allocating and freeing, for domains and the hypervisor |
//! | `bitmap` | which frames are free                                             |
//! | `grant`  | what domains grant each other, and who has it mapped              |
//! | `list`   | how far a call that works through a guest's list has come         |
//! | `canaries` | frames of the hypervisor's own that are watched for writes by guests |
//! | `teardown` | a domain's end: every reference dropped, every frame freed      |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bitmap;
pub mod canaries;
pub mod frames;
pub mod grant;
pub mod list;
pub mod teardown;

pub use bitmap::FrameBitmap;
pub use canaries::Canaries;
pub use frames::{FrameAllocator, ReservedFrames};

#[cfg(test)]
mod tests;
