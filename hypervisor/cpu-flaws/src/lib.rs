//! Which flaws of processors a CPU has, and what the hypervisor does about each.
//!
//! Decides from what the CPU says of itself ([`CpuFacts`]): vendor, family and model, the CPUID bits
//! that announce mitigations, and the bits with which newer CPUs deny a flaw. What is neither
//! denied by the CPU nor known of its model counts as present: an unknown CPU has every flaw.
//!
//! | step                  | says                                                        |
//! |-----------------------|-------------------------------------------------------------|
//! | [`CpuFacts`]          | the words of CPUID and IA32_ARCH_CAPABILITIES, with names   |
//! | [`CpuFacts::assess`]  | whether the CPU has a flaw, and by what that is known       |
//! | [`Mitigations::plan`] | what the hypervisor is to do on this CPU                    |
//! | [`Mitigations::action`] | the same for one flaw, for the log                        |
//!
//! No hardware is touched here: whoever executes CPUID and the MSR accesses is the hypervisor. In a
//! virtual machine the words are those of the hypervisor below, and so is their truth.
//!
//! Sources: Intel SDM vol. 2 (CPUID) and vol. 4 (MSR 10AH); Intel, "Affected Processors: Transient
//! Execution Attacks & Related Security Issues by CPU"; AMD APM vol. 3 appendix E; AMD bulletins
//! AMD-SB-1037 (branch type confusion), AMD-SB-7005 (SRSO), AMD-SB-7029 (TSA).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod facts;
mod flaw;
mod models;
mod plan;

pub use facts::{CpuFacts, CpuidWords, Vendor};
pub use flaw::{Assessment, Flaw};
pub use plan::{Action, IbrsMode, Mitigations, Open, leaves_fpu_pointers};

#[cfg(test)]
mod tests;
