//! Byte rings in a page that a guest shares with the hypervisor.
//!
//! **The promise.** Whatever the guest writes to the page, at whatever moment, a call takes or
//! gives at most one ring's worth of bytes, touches nothing outside the ring, and ends.
//!
//! A ring has two free-running `u32` indices: the producer's counts bytes written, the consumer's
//! bytes read; their difference is what lies in the ring, their low bits are places. All of it is
//! the guest's to overwrite. So each call fetches each index once, judges the copies, and works
//! with those; bytes are copied out before anybody looks at them.
//!
//! | file      | about                                             |
//! |-----------|---------------------------------------------------|
//! | `ring`    | one direction: [`Reader`] and [`Writer`]          |
//! | `console` | the page of `xencons_interface`                   |
//! | `store`   | the page of `xenstore_domain_interface`           |
//!
//! What it leaves to its neighbours: finding the page and holding it, keeping two CPUs from
//! working on one end at the same time, and telling the guest that something changed.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod console;
mod ring;
mod store;
#[cfg(test)]
mod tests;

pub use console::ConsolePage;
pub use ring::{Garbled, Reader, Writer};
pub use store::StorePage;
