//! Objects of pages that are in memory while somebody pins them, and may be elsewhere otherwise.
//!
//! A pinned page has a frame and keeps it; one without a pin may lose its frame whenever memory is
//! short: if it was marked dirty it is written to the [`Store`] first, else it is dropped, since
//! the store has it, or it was never anything but zeros. What is written to a page and not marked
//! dirty before the last pin goes may be lost.
//!
//! A pinned range can be mapped for the kernel. The mapping is an area as any other
//! ([`vmap`](crate::vmap)): unmapped, it stays for a while, and so does the writable alias that it
//! is, of a page that may be paged out the next moment and of a frame that may be a page table the
//! moment after. What keeps that harmless is what keeps all of them harmless: a pin of a page table
//! looks first.
//!
//! | may be done | while |
//! |---|---|
//! | [`pin`](Pager::pin) | always |
//! | [`page`](Pager::page), [`mark_dirty`](Pager::mark_dirty), [`map`](Pager::map) | every page is pinned |
//! | [`unpin`](Pager::unpin) | every page is pinned, and mapped ones more than once |
//! | [`free`](Pager::free) | no page is pinned |
//!
//! Ranges are pages of the object, end exclusive, never empty. A broken rule is said by name
//! ([`Rule`]), and then nothing was done.

mod clock;
mod object;
mod pager;
mod rule;
mod store;
mod view;

pub use object::ObjectId;
pub use pager::{Pager, PagerStats};
pub use rule::{Error, Rule};
pub use store::{InMemory, Place, Store, StoreError, Words};
pub use view::View;
