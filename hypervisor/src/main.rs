//! Pinfold: a type-1 hypervisor for paravirtualised x86-64 guests.
//!
//! The promise: no frame that is in use as a page table has a writable mapping anywhere, and when
//! a guest asks for one that would, it is refused and told exactly which mapping is in the way.
//! The decision is made in `pinfold-validator`; this crate gives it hardware and guests.
#![no_std]
#![no_main]
#![expect(unreachable_pub, reason = "in a binary, `pub` means: for the other rooms of the house")]

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
