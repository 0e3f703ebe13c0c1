//! A machine in the memory of a host process, for examples and for host tests of a guest kernel.
//!
//! [`Machine`] follows page tables as a CPU without a TLB does, and refuses what matters here: a
//! page table that some live table maps writable. It checks nothing else that a hypervisor checks;
//! the crate's own tests run on Pinfold's validator.
//!
//! | module | what it is |
//! |---|---|
//! | `machine` | memory, and the calls on it |
//! | `tables` | walks of the live page tables, and the check |

mod machine;
mod tables;

pub use machine::Machine;
