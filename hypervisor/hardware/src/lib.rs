//! What firmware tables and CPUID say of the machine. No hardware access: the hypervisor reads tables,
//! CPUID and counters, and this crate says what they mean, so that all of it runs in unit tests.
//!
//! | module      | about                                                                       |
//! |-------------|-----------------------------------------------------------------------------|
//! | `madt`      | processors and I/O APICs in the MADT                                        |
//! | `frequency` | frequencies of the TSC and of the APIC timer that CPUID or KVM's clock name |
//! | `scale`     | conversion between ticks of the TSC, nanoseconds and ticks of a timer       |
//!
//! ```
//! use pinfold_hardware::TscScale;
//!
//! let scale = TscScale::of_khz(2_000_000);
//! assert_eq!(scale.to_ns(2_000), 1_000);
//! assert_eq!(scale.to_ticks(1_000), 2_000);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

pub mod frequency;
pub mod madt;
mod scale;
#[cfg(test)]
mod tests;

pub use scale::{TimerRatio, TscScale};
