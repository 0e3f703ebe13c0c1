//! The processor: descriptor tables, entry and exit, its timer and its registers.
//!
//! The only place with assembly. What the rest of the hypervisor sees is [`entry::enter`], which
//! looks like a function call: it runs a guest and comes back with the reason why it stopped. A
//! second way to run a guest (a hardware container) would stand beside it, behind the same seam.

pub mod apic;
pub mod cache;
pub mod control;
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
pub mod percpu;
pub mod port;
pub mod rtc;
pub mod segments;
pub mod spec_ctrl;
pub mod user_copy;
pub mod vector;
