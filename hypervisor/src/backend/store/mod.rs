//! Xenstore back ends: each guest has a store of its own.
//!
//! | file    | about                                            |
//! |---------|--------------------------------------------------|
//! | `guest` | a guest's store, its ring, and servicing it      |
//! | `nodes` | the initial nodes of a store                     |
//!
//! The protocol and the tree are in [`pinfold_store`].

pub mod guest;
mod nodes;

use crate::domain::Domain;
use crate::event::ports;
pub use nodes::{Facts, make};
pub use pinfold_store::HEAP_BYTES;

/// Services the store's ring of a guest that sent an event. True if there is more to do than one call
/// may: the call is restarted.
pub fn guest_sent(domain: &Domain) -> bool {
    let served = domain.store.service(domain.id);
    if served.moved {
        ports::raise_store(domain);
    }
    served.unfinished
}
