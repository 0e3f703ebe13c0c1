//! The buffer in which the hypervisor lists the mappings that a pin met.

use core::cell::UnsafeCell;
use pinfold_abi::pinfold::{AliasesFound, Mapping};

/// Most mappings of one upcall.
pub(super) const MAX_MAPPINGS: usize = 64;

/// The list, as the hypervisor writes it.
#[derive(Debug, Default)]
#[repr(C)]
struct AliasList {
    head: AliasesFound,
    mappings: Mappings,
}

#[derive(Debug)]
#[repr(transparent)]
struct Mappings([Mapping; MAX_MAPPINGS]);

impl Default for Mappings {
    fn default() -> Mappings {
        Mappings([Mapping::default(); MAX_MAPPINGS])
    }
}

/// A vCPU's buffer. The hypervisor writes it before it enters the upcall.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct UpcallBuffer(UnsafeCell<AliasList>);

impl UpcallBuffer {
    /// The mappings that the hypervisor listed last.
    ///
    /// # Safety
    ///
    /// The hypervisor must not write the buffer while the result lives: the running vCPU must be
    /// in the upcall that the buffer was written for.
    pub(super) unsafe fn mappings(&self) -> &[Mapping] {
        // SAFETY: nobody writes meanwhile, says the caller.
        let list = unsafe { &*self.0.get() };
        &list.mappings.0[..(list.head.nr_mappings as usize).min(MAX_MAPPINGS)]
    }
}
