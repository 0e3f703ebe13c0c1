//! Pinfold: a type-1 hypervisor for paravirtualised x86-64 guests.
//!
//! Its invariant: no frame that is in use as a page table has a writable mapping. A request that would
//! break it is refused, and the refusal names the mapping that is in the way. `pinfold-validator`
//! makes that decision; this crate runs the guests and drives the hardware.
//!
//! Modules are arranged in floors, which `floors.toml` lists: a module uses only its own floor and
//! lower ones.
#![no_std]
#![no_main]
#![expect(unreachable_pub, reason = "in a binary, `pub` is visible to the other modules")]

extern crate alloc;

mod arch;
mod backend;
mod boot;
mod console;
mod diagnostics;
mod domain;
mod event;
mod grant;
mod hypercall;
mod machine;
mod memory;
mod panic;
mod run;
mod sync;
mod time;
mod trap;
