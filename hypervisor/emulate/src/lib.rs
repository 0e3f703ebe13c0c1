//! What a deprivileged guest's trapped instructions mean.
//!
//! A guest kernel runs in ring 3. Some of its instructions trap, and a few of those are part of
//! the ABI: plain stores to page tables ([`store`]), privileged instructions ([`privileged`],
//! [`control`], [`msr`], [`debug`]) and CPUID ([`cpuid`]). This crate decodes them and computes
//! what they do; it touches no hardware, no guest memory and no state but the registers that it
//! is handed.
//!
//! The promise: total and bounded. Any bytes and any register values give a result or a refusal;
//! what is refused is the guest's own fault, delivered to it by the caller. Results are exact, flags
//! included: a guest can't tell an emulated instruction from a native one, but by its cost.
//!
//! Left to the caller: fetching the bytes with the guest's rights, checking that the address
//! computed here is the one that faulted, changing memory, and delivering faults.
//!
//! Decoding is `iced-x86`'s, which builds its tables (some 80 KB) on the heap at first use and allocates
//! nothing after that: the hypervisor calls [`warm_up`] once while it starts, so that no guest pays for it and no trap handler allocates.
#![no_std]
// Tests may: one runs instructions natively to compare with.
#![cfg_attr(not(test), forbid(unsafe_code))]

#[cfg(test)]
extern crate std;

mod alu;
pub mod control;
pub mod cpuid;
pub mod debug;
mod decode;
pub mod msr;
pub mod privileged;
pub mod registers;
pub mod store;
#[cfg(test)]
mod tests;

pub use decode::{MAX_INSTRUCTION, SegmentBases, warm_up};

/// The instruction raises #GP in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

impl core::fmt::Display for GeneralProtection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("general protection")
    }
}
