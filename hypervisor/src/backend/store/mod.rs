//! The guests' stores: the ring page of each, and the store behind it.
//!
//! | file    | about                                            |
//! |---------|--------------------------------------------------|
//! | `guest` | a guest's store, its ring, and serving it        |
//! | `nodes` | what a guest finds in its store                  |
//!
//! The protocol and the tree are [`pinfold_store`]'s; here is only where the bytes go through.

pub mod guest;
mod nodes;

use crate::domain::Domain;
use crate::event::ports;
pub use nodes::{Facts, make};
pub use pinfold_store::HEAP_BYTES;

/// A guest says that its store's ring has something new. `true`: there is more to do than one call
/// may; the guest is to ask again.
pub fn guest_sent(domain: &Domain) -> bool {
    let served = domain.store.service(domain.id);
    if served.moved {
        ports::raise_store(domain);
    }
    served.unfinished
}
