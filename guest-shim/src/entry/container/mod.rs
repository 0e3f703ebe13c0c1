//! The kernel in ring 0 of the hardware container (`docs/container.md`): descriptor tables, native
//! entries and exits, and event masks by RFLAGS.IF.
//!
//! Nothing here runs in ring 3.

pub(super) mod cpu;
pub(super) mod tables;
mod traps;
pub(super) mod user;

use super::percpu::{self, PerCpu};
use crate::hypercall::{Errno, address, hvm};
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pinfold_abi::errno::Errno as Known;
use tables::{CpuTables, UPCALL_VECTOR};

/// Loads tables, the GS base and the system call entries on the boot vCPU.
pub(super) fn init_boot() -> Result<(), Errno> {
    tables::fill_idt(traps::stub);
    let own = percpu::boot();
    own.prepare();
    // SAFETY: called once, before any other code uses the tables.
    let tables = unsafe { tables::boot() };
    own.tables.store(tables, Release);
    load(own)
}

/// Allocates the tables of a secondary vCPU. They are never freed.
pub(super) fn prepare(own: &'static PerCpu, kernel_stack: u64) {
    let tables = Box::leak(CpuTables::new());
    tables.init();
    tables.set_kernel_stack(kernel_stack);
    own.tables.store(tables, Release);
    own.syscall_stack.store(kernel_stack, Relaxed);
}

/// Loads the tables of the running vCPU, and names the vector of its event upcall.
pub(super) fn load(own: &'static PerCpu) -> Result<(), Errno> {
    let tables = own.tables.load(Acquire);
    if tables.is_null() {
        return Err(Known::EINVAL.into());
    }
    // SAFETY: the tables are this vCPU's, filled and never freed, as is the IDT.
    unsafe {
        (*tables).load();
        tables::load_idt();
        cpu::set_bases(address(own));
        user::init();
        // The gate is in the IDT.
        hvm::set_upcall_vector(own.id(), UPCALL_VECTOR)
    }
}
