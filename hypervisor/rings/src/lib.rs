//! Byte rings in a page that a guest shares with the hypervisor.
//!
//! **The promise.** Whatever the guest writes to the page, at whatever moment, each call reads or
//! writes at most one ring's length of bytes, touches nothing outside the ring, and ends.
//!
//! A ring has two free-running `u32` indices: the producer's counts bytes written, the consumer's
//! bytes read. Their difference is the number of bytes in the ring; their low bits are offsets. The
//! guest can overwrite all of it. So each call loads each index once, checks the copy, and works
//! with the copy. Bytes are copied out before they are looked at.
//!
//! | file      | about                                             |
//! |-----------|---------------------------------------------------|
//! | `ring`    | one direction: [`Reader`] and [`Writer`]          |
//! | `console` | the page of `xencons_interface`                   |
//! | `store`   | the page of `xenstore_domain_interface`           |
//!
//! Left to the callers: finding the page and holding a reference to it, keeping two CPUs from using
//! one end at the same time, and sending the guest an event.
//!
//! ```
//! use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
//! use pinfold_rings::{InvalidIndices, Reader, Writer};
//!
//! let bytes = [const { AtomicU8::new(0) }; 16];
//! let (consumed, produced) = (AtomicU32::new(0), AtomicU32::new(0));
//! assert_eq!(Writer::new(&bytes, &consumed, &produced).write(b"hello"), Ok(5));
//!
//! let reader = Reader::new(&bytes, &consumed, &produced);
//! let mut buffer = [0; 16];
//! assert_eq!(reader.read(&mut buffer), Ok(5));
//! assert_eq!(&buffer[..5], b"hello");
//!
//! // The guest overwrites an index.
//! produced.store(1000, Ordering::Relaxed);
//! assert_eq!(reader.read(&mut buffer), Err(InvalidIndices { consumed: 5, produced: 1000 }));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

mod console;
mod ring;
mod store;
#[cfg(test)]
mod tests;

pub use console::ConsolePage;
pub use ring::{InvalidIndices, Reader, Writer};
pub use store::StorePage;
