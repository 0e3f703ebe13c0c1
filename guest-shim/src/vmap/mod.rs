//! Areas of kernel addresses that map frames side by side and are cleared lazily.
//!
//! Clearing a mapping needs a TLB flush on every CPU, so kernels collect dead mappings and clear
//! many at once. Until then each is an alias of a frame that may have been reused for anything. The
//! [`Policy`] says when dead mappings are cleared:
//!
//! | policy | a dead mapping is cleared | before a pin |
//! |---|---|---|
//! | `Eager` | at once | nothing is left to do |
//! | `Batch(n)` | together with those of n - 1 other areas | all are cleared |
//! | `Lazy` | when too many pages are dead | all are cleared |
//! | `HoldRefs` | as `Lazy`; its frame is not reused before | nothing, except for frames that were never freed |
//! | `Hinted` | as `Lazy` | all are cleared if a count says that a frame to be pinned has one |
//! | `Targeted` | as `Lazy` | those of the frames to be pinned, found in an index |
//!
//! | module | what it does |
//! |---|---|
//! | `state` | which areas exist, alive and dead |
//! | `ops` | mapping, unmapping, clearing |
//! | `small` | small areas, carved from blocks of each CPU |
//! | `regions`, `open_region` | named parts of the range |
//! | `free_ranges`, `blocks`, `index`, `hints` | the data structures |

mod area;
mod blocks;
mod free_ranges;
mod hints;
mod index;
#[cfg(feature = "raw")]
mod leaked_blocks;
mod open_region;
mod ops;
mod policy;
mod regions;
mod small;
mod state;

pub use area::Area;
pub use blocks::{BLOCK_PAGES, SMALL_PAGES};
pub use policy::Policy;
pub use regions::Region;
pub(crate) use regions::WHOLE_RANGE;
pub(crate) use state::Vmap;
