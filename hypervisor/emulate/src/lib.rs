//! Emulation of the instructions of a deprivileged guest that trap.
//!
//! A guest kernel runs in ring 3. Some of its instructions fault there, and a few of those are part
//! of the guest ABI: plain stores to page tables ([`pte_store`]), privileged instructions
//! ([`privileged`], [`control`], [`msr`], [`debug`]) and CPUID ([`cpuid`]). This crate decodes them
//! and computes their results. It touches no hardware, no guest memory, and no state but the
//! registers that it is given.
//!
//! **The promise.** Any bytes and any register values give a result or an error, in bounded time. An
//! error means that the fault is the guest's own, and the caller delivers it. Results are exact,
//! flags included: a guest can tell an emulated instruction from a native one only by its cost.
//!
//! Left to the callers: fetching the instruction with the guest's rights, checking that the address
//! computed here is the one that faulted, changing memory, and delivering faults.
//!
//! Decoding is done by `iced-x86`, which builds its tables (about 80 KB) on the heap at first use and
//! allocates nothing after that. The hypervisor calls [`warm_up`] once at boot, so no trap handler
//! allocates.
//!
//! ```
//! use pinfold_abi::vcpu::CpuUserRegs;
//! use pinfold_emulate::SegmentBases;
//! use pinfold_emulate::pte_store::PteStore;
//!
//! // lock and byte ptr [rdi], 0xfd: clears the writable bit of the entry that rdi points to
//! let bytes = [0xf0, 0x80, 0x27, 0xfd];
//! let mut regs = CpuUserRegs { rdi: 0x8000, rip: 0x1000, ..Default::default() };
//!
//! let store = PteStore::decode(&bytes, &regs, SegmentBases::default()).expect("is a store");
//! assert_eq!(store.entry_address(), 0x8000);
//! let result = store.evaluate(0x1234_5067, &regs);
//! assert_eq!(result.entry, 0x1234_5065);
//!
//! // Once the caller has written the entry:
//! result.effects.apply(&mut regs);
//! assert_eq!(regs.rip, 0x1004);
//! ```
#![no_std]
// Tests may use unsafe code: one compares with instructions that the CPU executes.
#![cfg_attr(not(test), forbid(unsafe_code))]

#[cfg(test)]
extern crate std;

mod alu;
pub mod container;
pub mod control;
pub mod cpuid;
pub mod debug;
mod decode;
pub mod msr;
pub mod privileged;
pub mod pte_store;
pub mod registers;
#[cfg(test)]
mod tests;

pub use control::GeneralProtection;
pub use decode::{MAX_INSTRUCTION, SegmentBases, warm_up};
