//! The guest's half of Pinfold: what a guest kernel links to keep its mappings lazy and its page
//! tables cheap to pin.
//!
//! # The problem
//!
//! A Xen PV guest writes its own page tables, and the hypervisor validates them. A frame that is a
//! page table may have no writable mapping anywhere. Kernels keep mappings that nobody uses any
//! more: they free vmap areas in batches, because each unmap needs a TLB flush on every CPU, and
//! cache kmap slots. Each such mapping is a stray alias. When its frame is reused for a page table,
//! the hypervisor refuses to pin the table.
//!
//! # What this crate does
//!
//! [`mmu::Mmu`] owns the guest's page tables and its lazy mappings. Before a frame becomes a page
//! table, it clears the dead mappings of that frame, and no others if the policy can tell them
//! apart:
//!
//! * [`vmap`] areas are unmapped lazily, by one of six [policies](vmap::Policy). `Targeted` keeps
//!   an index of dead mappings by frame: a pin clears exactly those of its own frames, with one
//!   hypercall, and costs nothing when there are none.
//! * The table pool ([`Mmu::set_table_pool`](mmu::Mmu::set_table_pool)) keeps frames that were
//!   cleaned many at a time. A pin of tables made from it examines nothing.
//! * The alias upcall (`entry::alias`) clears a mapping that the index missed in the middle of the
//!   pin, and the pin is tried again.
//!
//! ```
//! use pinfold_guest::addr::Vaddr;
//! use pinfold_guest::host::Machine;
//! use pinfold_guest::mmu::{Config, Mmu};
//! use pinfold_guest::vmap::Policy;
//!
//! let machine = Machine::new(64);
//! let free = machine.free_frames();
//! let config = Config {
//!     vmap_start: Vaddr(0xffff_c000_0000_0000),
//!     vmap_pages: 512,
//!     kmap_start: Vaddr(0xffff_d000_0000_0000),
//!     kmap_slots: 16,
//!     cpus: 1,
//!     policy: Policy::Targeted,
//!     table_pool: 0,
//! };
//! let mut mmu = Mmu::new(machine, free, &config).unwrap();
//!
//! // An area is freed: its mapping stays, and its frame is reused for a page table.
//! let frame = mmu.alloc_frame().unwrap();
//! let area = mmu.vmap(&[frame]).unwrap();
//! mmu.vunmap(area).unwrap();
//! mmu.free_frame(frame);
//! assert_eq!(mmu.lazy_mappings(), 1);
//! let table = mmu.alloc_tables(1).unwrap();
//! assert_eq!(table.root(), frame);
//!
//! // The pin clears it first, and succeeds.
//! let pinned = mmu.pin(table).unwrap();
//! assert_eq!(mmu.lazy_mappings(), 0);
//! assert_eq!(mmu.stats().pins_after_clear, 1);
//! # let table = mmu.unpin(pinned).unwrap();
//! # mmu.free_tables(table);
//! ```
//!
//! # Adopting it
//!
//! 1. A new kernel enables the feature `entry` and is about thirty lines: see `tests/guests/hello`.
//!    It gets an `Mmu` from `entry::kernel::start`. A kernel with start code of its own implements
//!    [`platform::Platform`] with its hypercalls and its direct map, and calls [`mmu::Mmu::new`].
//! 2. It makes all page tables through the `Mmu` ([`mmu::UnpinnedTables`], [`mmu::AddressSpace`]),
//!    and all mappings outside of the direct map through [`vmap`](mmu::Mmu::vmap) and
//!    [`kmap`](mmu::Mmu::kmap).
//! 3. It chooses a policy. `Targeted` is the cheapest wherever pins are frequent. On a stock Xen,
//!    which has no shootdown call, it works with one flush of all CPUs for each clearing.
//! 4. Host tests run its code on `host::Machine`, without a hypervisor.
//!
//! # Modules
//!
//! Imports go down only: a module uses those below it (`floors.toml`).
//!
//! | module | what it is |
//! |---|---|
//! | `fixtures` | (features `raw` and `entry`) what test guests share |
//! | `raw` | (feature `raw`) hypercalls with any argument, for tests of what is forbidden |
//! | `entry` | (feature `entry`) what a kernel needs to start: ELF notes, traps, events, vCPUs, heap |
//! | [`buffer_cache`] | blocks of a disk in memory, as a file system has, mapped lazily |
//! | [`buffer`] | buffers that are copied to pageable objects when memory is short |
//! | [`pageable`] | objects of pages that are written to a store while nobody pins them |
//! | [`dma`] | devices that write to pages, which stay theirs until the transfer ends |
//! | [`mmu`] | page tables, and the one place where lazy mappings are cleared before a pin |
//! | [`vmap`] | areas of kernel addresses, cleared late |
//! | [`kmap`] | single frames, mapped for a short time |
//! | [`rmap`] | from a frame to everything that maps it |
//! | [`platform`] | the calls that change mappings, as a trait |
//! | `host` (not on bare metal) | a machine in memory, for host tests |
//! | [`hypercall`] | the calls that change no mapping, typed |
//! | [`shared`] | the page shared with the hypervisor: pending events, clocks |
//! | [`addr`] | frame numbers and addresses |
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod buffer;
pub mod buffer_cache;
pub mod dma;
mod entries;
#[cfg(all(feature = "entry", target_os = "none"))]
pub mod entry;
mod error;
#[cfg(all(feature = "raw", feature = "entry", target_os = "none"))]
pub mod fixtures;
mod frames;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod hypercall;
pub mod kmap;
pub mod mmu;
pub mod pageable;
pub mod platform;
#[cfg(feature = "raw")]
pub mod raw;
pub mod rmap;
pub mod shared;
mod stats;
pub mod vmap;

pub use pinfold_abi as abi;
