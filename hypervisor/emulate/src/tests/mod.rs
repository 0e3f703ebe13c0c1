//! Tests of the whole crate, a file a subject.

mod alu;
mod any_bytes;
mod container;
mod control;
mod cpuid;
mod debug;
mod msr;
mod privileged;
mod pte_store;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod real_cpu;
mod registers;

/// Cases of a property test that has `cases` of them natively; Miri is a thousand times slower.
const fn cases(cases: u32) -> u32 {
    if cfg!(miri) { 10 } else { cases }
}
