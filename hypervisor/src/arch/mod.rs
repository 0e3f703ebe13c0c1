//! The CPU: descriptor tables, entry and exit, APICs, MSRs, I/O ports.
//!
//! The other floors run guests through [`entry::enter`]: to its caller it is a function that runs
//! a guest until the guest exits, and returns why.
//!
//! Almost all assembly of the hypervisor is here. The exceptions are instructions that belong to
//! one algorithm elsewhere: the trampoline of the APs (`boot::smp`), the change of page tables
//! together with the stack (`memory::paging`), and the copy of root entries by `rep movsq`
//! (`memory::isolation`).
#![expect(unsafe_code, reason = "registers, assembly, per-CPU data")]

pub mod apic;
pub mod cache;
pub mod container;
pub mod control;
pub mod debug_registers;
pub mod entry;
pub mod fixup;
pub mod flaws;
pub mod fpu;
pub mod gdt;
mod hooks;
pub mod idt;
pub mod io_apic;
pub mod ipi;
pub mod latency;
pub mod layout;
pub mod pci;
pub mod percpu;
pub mod port;
pub mod rtc;
pub mod segments;
pub mod spec_ctrl;
pub mod stack;
pub mod svm;
pub mod user_copy;
pub mod vector;
pub mod walk_cache;
