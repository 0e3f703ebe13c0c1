//! The store of a guest: the xenstore protocol (`public/io/xs_wire.h`, `docs/misc/xenstore.txt`)
//! over a tree of its own.
//!
//! **The promise.** Whatever bytes a guest sends, each message gets its one reply, the memory that
//! a guest's store takes stays below a fixed bound ([`quota::HEAP_BYTES`]), and nothing panics.
//!
//! Every domain has a store to itself, whose tree is its `/local/domain/<id>`. What is outside
//! answers EACCES, as the reference does for nodes that a domain may not see, whether they exist or
//! not: there is nothing to share yet, so nothing is shared. Inside, the domain owns every node;
//! permissions are kept and told, and nobody is there whom they could keep out.
//!
//! Transactions are isolated: each works on a copy of the tree, and its end takes the copy, or says
//! EAGAIN if the tree has changed since.
//!
//! | file         | about                                                              |
//! |--------------|--------------------------------------------------------------------|
//! | `wire`       | headers, types, names of errors                                    |
//! | `path`       | what a path may be, and where it leads                             |
//! | `tree`       | nodes, and what they may take                                      |
//! | `watch`      | watches, and the events that wait to be told                       |
//! | `store`      | what each request does                                             |
//! | `connection` | messages out of a stream of bytes, replies into one                |
//! | `quota`      | the limits                                                         |
//!
//! What it leaves to its neighbours: the ring that the bytes go through, and telling the guest.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod path;
pub mod quota;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
pub mod wire;

pub use connection::Connection;
