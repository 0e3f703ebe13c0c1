//! The store of a guest: the xenstore protocol (`public/io/xs_wire.h`, `docs/misc/xenstore.txt`)
//! over a tree of its own.
//!
//! **The promise.** Whatever bytes a guest sends, each message gets its one reply, and nothing
//! panics. A store asks for memory when it is made, and never again: its quotas are room that it
//! has ([`quota::HEAP_BYTES`]), in lists that can't be fragmented. So no guest can keep another
//! one, or its own next request, from what the quotas allow.
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
//! | `fixed`      | lists that have their whole room from the beginning                |
//!
//! What it leaves to its neighbours: the ring that the bytes go through, and telling the guest.
#![no_std]
// Tests may: one brings an allocator that counts.
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod fixed;
mod path;
pub mod quota;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
pub mod wire;

pub use connection::Connection;
