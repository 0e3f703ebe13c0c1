//! Tests of the whole crate, a file a subject.

mod alu;
mod any_bytes;
mod control;
mod cpuid;
mod debug;
mod msr;
mod privileged;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod real_cpu;
mod registers;
mod store;
