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
//! An example with two areas of two pages each, of which a pin needs one frame:
//!
//! ```
//! # use pinfold_guest::addr::Vaddr;
//! # use pinfold_guest::host::Machine;
//! # use pinfold_guest::mmu::{Config, Mmu};
//! # let machine = Machine::new(64);
//! # let free = machine.free_frames();
//! # let config = Config {
//! #     vmap_start: Vaddr(0xffff_c000_0000_0000),
//! #     vmap_pages: 512,
//! #     kmap_start: Vaddr(0xffff_d000_0000_0000),
//! #     kmap_slots: 16,
//! #     cpus: 1,
//! #     policy: pinfold_guest::vmap::Policy::Lazy,
//! #     table_pool: 0,
//! # };
//! # let mut mmu = Mmu::new(machine, free, &config).unwrap();
//! use pinfold_guest::vmap::Policy;
//!
//! let mut frames = || -> [_; 2] { core::array::from_fn(|_| mmu.alloc_frame().unwrap()) };
//! let (first, second) = (frames(), frames());
//! for (policy, left) in [(Policy::Eager, 0), (Policy::Lazy, 0), (Policy::Targeted, 3)] {
//!     mmu.set_policy(policy).unwrap();
//!     for pages in [first, second] {
//!         let area = mmu.vmap(&pages).unwrap();
//!         mmu.vunmap(area).unwrap();
//!     }
//!     // One frame is freed, and becomes a page table.
//!     mmu.free_frame(first[0]);
//!     let table = mmu.alloc_tables(1).unwrap();
//!     assert_eq!(table.root(), first[0]);
//!     let pinned = mmu.pin(table).unwrap();
//!     assert_eq!(mmu.lazy_mappings(), left, "{policy}");
//!     let table = mmu.unpin(pinned).unwrap();
//!     mmu.free_tables(table);
//!     assert_eq!(mmu.alloc_frame(), Ok(first[0]));
//! }
//! ```
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
