//! Decides whether a guest may do something to memory: types and references of frames, page-table
//! validation, pins, grants, and the flushes that these need.
//!
//! **The promise.** No frame that is in use as a page table has a writable mapping anywhere, no CPU has a
//! writable translation of it cached, and every present entry of a validated table is one that its
//! level permits. Any other request is refused, with the evidence.
//!
//! A frame has one type at a time. References take a type and keep it, until the last is dropped:
//!
//! | type       | referred to by                          | the first reference                        |
//! |------------|-----------------------------------------|--------------------------------------------|
//! | writable   | a writable L1 entry, the hypervisor     | flushes stale page walks                   |
//! | L1 .. L4   | an entry one level up, a pin, a root    | flushes stale writers, checks 512 entries  |
//! | descriptor | a GDT or LDT page                       | the same, for 512 descriptors              |
//!
//! Reading needs no type: a guest may map any frame of its own read-only, tables included.
//!
//! The crate knows no hardware: it accesses tables, and flushes TLBs, through [`Platform`]. It neither
//! allocates nor waits. An operation that takes too long for one call, or that meets another CPU working
//! on the same frame, stops with [`Error::Preempted`], and resumes when it is called again. Left to the
//! callers: decoding hypercalls, mapping frames, loading roots, answering the guest.
//!
//! # Example
//!
//! A guest maps a frame writable and asks for it as a page table.
//!
//! ```
//! use pinfold_validator::{Budget, Cause, DomId, Entry, Error, FrameEntry, Index, Level, Limits};
//! use pinfold_validator::{Mfn, Policy, Validator};
//! use pinfold_abi::mmu::EntryFlags;
//! # use pinfold_validator::{CachePolicy, CpuSet, Platform, Refusal};
//! # use std::cell::RefCell;
//! # struct Machine(RefCell<Vec<[u64; 512]>>);
//! # impl Platform for Machine {
//! #     fn read_entry(&self, table: Mfn, index: Index) -> u64 {
//! #         self.0.borrow()[table.get() as usize][index.get()]
//! #     }
//! #     fn write_entry(&self, table: Mfn, index: Index, value: u64) {
//! #         self.0.borrow_mut()[table.get() as usize][index.get()] = value;
//! #     }
//! #     fn compare_exchange_entry(
//! #         &self, table: Mfn, index: Index, current: u64, new: u64,
//! #     ) -> Result<(), u64> {
//! #         let now = self.read_entry(table, index);
//! #         if now != current { return Err(now) }
//! #         Ok(self.write_entry(table, index, new))
//! #     }
//! #     fn flush_tlb(&self, _: CpuSet) {}
//! #     fn dirty_cpus(&self, _: DomId) -> CpuSet { CpuSet::EMPTY }
//! #     fn all_cpus(&self) -> CpuSet { CpuSet::EMPTY }
//! #     fn clear_frame(&self, frame: Mfn) { self.0.borrow_mut()[frame.get() as usize].fill(0) }
//! #     fn invalidate_m2p(&self, _: Mfn) {}
//! #     fn flush_cache(&self, _: Mfn) {}
//! #     fn cache_policy(&self, _: DomId) -> CachePolicy { CachePolicy::Strict }
//! #     fn report_cache_alias(&self, _: &Refusal) {}
//! #     fn install_hypervisor_slots(&self, _: DomId, _: Mfn) {}
//! #     fn clear_hypervisor_slots(&self, _: Mfn) {}
//! # }
//! # let frames: Vec<_> = (0..8).map(|_| FrameEntry::new()).collect();
//! # let max_mfn = Mfn::new(7);
//! # let limits = Limits {
//! #     physical_bits: 40, nx: true, max_mfn, max_cached_mfn: max_mfn, policy: Policy::default(),
//! # };
//! # let machine = Machine(RefCell::new(vec![[0; 512]; 8]));
//!
//! let validator = Validator::new(machine, &frames, limits);
//! let guest = DomId::new(1);
//! let (table, page) = (Mfn::new(1), Mfn::new(2));
//! for frame in [table, page] {
//!     validator.add_ram_frame(frame);
//!     validator.assign(frame, guest)?;
//! }
//!
//! // The guest fills a table that maps `page` writable, and pins it: both frames get a type.
//! let entry = Entry::to(page, EntryFlags::WRITABLE);
//! validator.platform().write_entry(table, Index::new(0), entry.get());
//! validator.pin(guest, Level::L1, table, &mut Budget::new(512))?;
//!
//! // So `page` can't become a table.
//! let refused = validator.pin(guest, Level::L1, page, &mut Budget::new(512));
//! let Err(Error::Refused(refusal)) = refused else { panic!() };
//! assert_eq!(refusal.cause, Cause::WritableAlias);
//! assert_eq!(
//!     refusal.to_string(),
//!     "pin_l1: frame 0x2 can't be an L1 table while it has 1 writable mapping"
//! );
//! # Ok::<(), Error>(())
//! ```
//!
//! # Modules, from the bottom up
//!
//! `floors.toml` has this order, and `cargo xtask floors` checks it.
//!
//! | modules                                  | about                                            |
//! |------------------------------------------|--------------------------------------------------|
//! | `addr`, `ids`, `budget`, `sync`          | numbers of frames, domains and CPUs              |
//! | `memtype`, `limits`                      | memory types, limits of the machine              |
//! | [`frame_table`]                          | two words for each frame, and their transitions  |
//! | `tlb`, `table_map`, `deferred`           | flush clock, where tables are, deferred work     |
//! | `entry`                                  | bits of an entry, and which are permitted        |
//! | `refusal`                                | what is refused, why, and the evidence           |
//! | `platform`, `flush_debt`                 | what the validator needs from the machine        |
//! | `context`                                | one operation: its domain, budget and evidence   |
//! | `validator`                              | all of this in one structure                     |
//! | `refs`                                   | references of frames, types and entries          |
//! | `promote`, `demote`                      | making a frame a table, and taking it apart      |
//! | `update`, `walk`                         | changing and finding one entry                   |
//! | `pins`, `descriptor`, `grants`, `shootdown`, `ownership`, `relinquish` | the other operations |
//! | `search`, `audit`                        | finding mappings, recounting references          |
//!
//! Start with [`frame_table`] and `docs/invariants.md`. Unit tests are in `src/tests`, by subject, over a
//! model of a machine whose TLBs and caches forget nothing by themselves; `src/models` are the models
//! for loom.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

mod addr;
mod audit;
mod budget;
mod context;
mod deferred;
mod demote;
mod descriptor;
mod entry;
mod flush_debt;
pub mod frame_table;
mod grants;
mod ids;
mod limits;
mod memtype;
mod ownership;
mod pins;
mod platform;
mod promote;
mod refs;
mod refusal;
mod relinquish;
mod search;
mod shootdown;
mod sync;
mod table_map;
mod tlb;
mod update;
mod validator;
mod walk;

pub use addr::{Index, Level, Mfn, Pfn, Vaddr};
pub use audit::{AuditCell, AuditSummary, Discrepancy, DiscrepancyKind, ExternalRef, RefKind};
pub use budget::Budget;
pub use entry::Entry;
pub use flush_debt::FlushDebt;
pub use frame_table::{FrameEntry, FrameInfo, Kind, Purpose, State};
pub use grants::{GrantMapping, GrantUnmapping};
pub use ids::{CpuSet, DomId};
pub use limits::{Limits, Policy};
pub use memtype::{CachePolicy, FrameMemType};
pub use ownership::{CleanFrames, HypervisorFrames};
pub use platform::{GROUP, Platform};
pub use refusal::{Cause, EntryLocation, Error, Operation, Refusal};
pub use relinquish::RelinquishProgress;
pub use search::{FrameMapping, MappingFilter, Search, SearchEnd, SearchLimits};
pub use shootdown::{PageRange, ShootdownProgress};
pub use tlb::FlushTicket;
pub use update::{Swap, Update, Updated};
pub use validator::Validator;
pub use walk::{Leaf, WalkError};
