//! A guest's xenstore: the protocol (`public/io/xs_wire.h`, `docs/misc/xenstore.txt`) over a tree of
//! nodes that the guest has to itself.
//!
//! **The promise.** Whatever bytes a guest sends, each message gets exactly one reply, and nothing
//! panics. All memory is allocated when a store is created ([`HEAP_BYTES`]); the quotas are the
//! capacities of these allocations. So no request can fail for lack of memory, and no guest can
//! use up what the quotas of another one allow.
//!
//! Each domain has its own store, which holds only `/local/domain/<id>`, the domain's base path.
//! All other paths answer EACCES whether or not they exist elsewhere, as Xen's xenstored answers for
//! nodes that a domain may not see. The domain owns all its nodes; permissions are stored and
//! returned, but have no effect, since no other domain can access the store.
//!
//! Transactions are isolated: each works on a copy of the tree. Its end replaces the tree by the
//! copy, or answers EAGAIN if the tree has changed since the transaction began.
//!
//! | file         | about                                                              |
//! |--------------|--------------------------------------------------------------------|
//! | `wire`       | message headers and types, names of errors                         |
//! | `path`       | which paths are valid, and what they name                          |
//! | `tree`       | nodes                                                              |
//! | `watch`      | watches and their queued events                                    |
//! | `requests`   | what each request does                                             |
//! | `connection` | messages from a stream of bytes, replies to a stream of bytes      |
//! | `quota`      | the limits                                                         |
//! | `fixed_vec`  | lists with a fixed capacity                                        |
//!
//! Left to the callers: the ring that the bytes pass through, and the guest's event channel.
//!
//! ```
//! use pinfold_store::Connection;
//! use pinfold_store::wire::{HEADER, Header, MessageType};
//!
//! let mut connection = Connection::new(3).expect("there is memory");
//! connection.write_initial("name", "web").expect("within the quotas");
//!
//! // The guest reads the node by its absolute path.
//! let path = b"/local/domain/3/name\0";
//! let length = path.len() as u32;
//! let request = Header { kind: MessageType::Read.into(), request: 7, transaction: 0, length };
//! connection.receive(&request.to_bytes());
//! connection.receive(path);
//!
//! let (header, value) = connection.output().split_first_chunk::<HEADER>().expect("a reply");
//! assert_eq!(Header::from_bytes(header), Header { length: 3, ..request });
//! assert_eq!(value, b"web");
//! ```
#![no_std]
// Tests may use unsafe code: one installs an allocator that counts.
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod fixed_vec;
mod path;
pub mod quota;
mod requests;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
pub mod wire;

pub use connection::{Connection, HEAP_BYTES};
