//! The heart of Pinfold: everything that decides whether a guest may do something to memory.
//!
//! **The promise.** No frame that is in use as a page table has a writable mapping anywhere, no
//! processor's TLB remembers one, and every present entry of a live table is one that its level
//! permits. Whoever asks for anything else is refused, with the evidence.
//!
//! A frame has one type at a time. A type is taken by references and held as long as one is left:
//!
//! | type       | taken by                                | on the first reference      |
//! |------------|-----------------------------------------|-----------------------------|
//! | writable   | a writable L1 entry, the hypervisor     | stale table walks flushed   |
//! | L1 .. L4   | an entry one level up, a pin, a root    | stale writers flushed, 512 entries checked |
//! | descriptor | a GDT or LDT page                       | the same, 512 descriptors checked |
//!
//! Reads need no type: a guest may map any frame of its own read-only, tables included.
//!
//! The crate knows no hardware: tables are read and written, and TLBs flushed, through
//! [`Platform`]. It neither allocates nor waits: work that is too long for one call, or that meets
//! another processor halfway through the same frame, stops with [`Error::Preempted`] and goes on
//! where it was when it is asked again. What it leaves to its neighbours: decoding hypercalls,
//! mapping frames to find their bytes, loading roots, answering the guest.
//!
//! Start reading at [`frame_table`], which lists the invariants.
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
mod guards;
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
pub use guards::{DescriptorRef, ReadableRef, RootRef, WritableRef};
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
