//! Objects whose pages are in memory while somebody pins them, and may be in a store otherwise.
//!
//! A pinned page has a frame and keeps it. A page without a pin may lose its frame whenever memory
//! is short: if it was marked dirty it is written to the [`Store`] first; if not, it is dropped,
//! since the store has it or it is all zeros. What is written to a page and not marked dirty before
//! its last pin is dropped may be lost.
//!
//! A pinned range can be mapped for the kernel, in an area like any other ([`vmap`](crate::vmap)).
//! After it is unmapped its mappings stay for a while: writable aliases of pages that may be paged
//! out at any time, and whose frames may become page tables. They do no harm, because a pin of a
//! page table clears them first.
//!
//! | may be called | while |
//! |---|---|
//! | [`pin`](Pager::pin) | always |
//! | [`page`](Pager::page), [`mark_dirty`](Pager::mark_dirty), [`map`](Pager::map) | every page is pinned |
//! | [`unpin`](Pager::unpin) | every page is pinned, and mapped ones more than once |
//! | [`free`](Pager::free) | no page is pinned |
//!
//! Ranges are pages of the object, with an exclusive end, and never empty. A call that breaks a
//! rule returns the [`Rule`] and does nothing.

mod clock;
mod object;
mod pager;
mod rule;
mod store;
mod view;

pub use object::ObjectId;
pub use pager::{Pager, PagerStats};
pub use rule::{Error, Rule};
pub use store::{InMemory, PageId, Store, StoreError, Words};
pub use view::View;
