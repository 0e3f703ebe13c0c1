//! Single frames mapped for a short time.
//!
//! Persistent slots keep a frame mapped after its last user is gone, in case it is wanted again: a
//! cache of mappings, each of which may become a stray alias. Atomic slots are two per CPU, for
//! copying from one frame to another; they too keep their last mapping until they are used again,
//! or until a pin clears it, unless the caller has them cleared at once.

mod atomic;
mod persistent;
mod slots;

pub use atomic::Pair;
pub use persistent::Mapped;
pub(crate) use slots::Kmap;
