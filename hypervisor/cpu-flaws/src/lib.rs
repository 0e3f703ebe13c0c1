//! Which transient-execution and similar flaws a CPU has, and what the hypervisor does about each.
//!
//! The decision rests on what the CPU reports ([`CpuFeatures`]): vendor, family and model, feature
//! bits that announce mitigations, and bits by which newer CPUs say that they don't have a flaw. A
//! flaw that neither the CPU nor its vendor's publications rule out counts as present, so an unknown
//! CPU has every flaw.
//!
//! | step                      | gives                                                         |
//! |---------------------------|---------------------------------------------------------------|
//! | [`CpuFeatures::new`]      | names for the words of CPUID and IA32_ARCH_CAPABILITIES       |
//! | [`CpuFeatures::assess`]   | whether the CPU has a flaw, and how that is known             |
//! | [`Mitigations::for_cpu`]  | what the hypervisor does on this CPU                          |
//! | [`Mitigations::action`]   | the same for one flaw, for the log                            |
//!
//! The crate touches no hardware: the hypervisor executes CPUID and accesses MSRs. In a virtual
//! machine it is the hypervisor below that decides what CPUID says.
//!
//! Sources: Intel SDM vol. 2 (CPUID) and vol. 4 (MSR 10AH); Intel, "Affected Processors: Transient
//! Execution Attacks & Related Security Issues by CPU"; AMD APM vol. 3 appendix E; AMD bulletins
//! AMD-SB-1037 (branch type confusion), AMD-SB-7005 (SRSO), AMD-SB-7029 (TSA).
//!
//! ```
//! use pinfold_cpu_flaws::{CpuFeatures, CpuidWords, Exposure, Flaw, Mitigations};
//!
//! // A Haswell without microcode updates.
//! let cpu = CpuFeatures::new(CpuidWords {
//!     vendor: [0x756e_6547, 0x4965_6e69, 0x6c65_746e], // GenuineIntel
//!     signature: 0x306c3,
//!     ..CpuidWords::default()
//! });
//! assert!(cpu.has(Flaw::L1tf) && !cpu.has(Flaw::Retbleed));
//!
//! let mitigations = Mitigations::for_cpu(&cpu);
//! assert!(mitigations.refuse_absent && !mitigations.ibpb);
//! assert_eq!(mitigations.action(&cpu, Flaw::L1tf).exposure, Exposure::Nothing);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

#[cfg(test)]
extern crate std;

mod assess;
mod features;
mod flaw;
mod mitigations;
mod models;
#[cfg(test)]
mod tests;

pub use assess::Assessment;
pub use features::{CpuFeatures, CpuidWords, Vendor};
pub use flaw::Flaw;
pub use mitigations::{Action, Exposure, IbrsMode, Mitigations, fxrstor_keeps_fpu_pointers};
pub use strum::VariantArray;
