//! What the shim's logic needs from the machine: the hypercalls that change mappings, and loads and
//! stores through mappings. A guest kernel has the real ones (`entry::Native`); a host test has a
//! model of the machine, as `crate::host`.

use crate::addr::{Mfn, Pfn, Vaddr};
use crate::hypercall::Errno;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use pinfold_abi::mmu::{MmuUpdate, MmuextOp};
use pinfold_abi::pinfold::{Mapping, Range};

/// What a shootdown did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShootdownResult {
    /// Entries cleared.
    pub cleared: u64,
    /// CPUs flushed.
    pub flushed: u32,
}

/// The machine below the shim. Whoever has it can change any mapping: the shim's public interface
/// never hands it out.
pub trait Platform {
    /// The machine frame of a pfn of the guest.
    fn mfn(&self, pfn: Pfn) -> Mfn;
    /// The pfn of a machine frame, if it is one of the guest.
    fn pfn(&self, mfn: Mfn) -> Option<Pfn>;
    /// Where the direct map maps a pfn: writable, or read-only while it is a page table.
    fn direct_map_va(&self, pfn: Pfn) -> Vaddr;
    /// The root table that the kernel runs on.
    fn root(&self) -> Pfn;
    /// Records that the kernel runs on another root table.
    fn set_root(&mut self, root: Pfn);
    /// Reads a word.
    fn load(&self, va: Vaddr) -> u64;
    /// Writes a word. The shim calls this for words of free frames, of tables that are not in use,
    /// and of pages that were mapped to be written.
    fn store(&mut self, va: Vaddr, word: u64);

    /// `mmu_update`: all requests or an error; requests before the bad one have taken effect.
    fn mmu_update(&mut self, requests: &[MmuUpdate]) -> Result<(), Errno>;
    /// `mmuext_op`: all operations or an error; operations before the bad one have taken effect.
    fn mmuext_op(&mut self, ops: &[MmuextOp]) -> Result<(), Errno>;
    /// `update_va_mapping` of several addresses of the loaded root, with the same flags, in as few
    /// calls as possible. All or an error.
    fn update_va_mappings(&mut self, entries: &[(Vaddr, u64)], flags: u64) -> Result<(), Errno>;
    /// `pinfold_op` shootdown; -ENOSYS on other hypervisors.
    fn shootdown(&mut self, ranges: &[Range]) -> Result<ShootdownResult, Errno>;
    /// `pinfold_op` lazy_region: names a range for reports; -ENOSYS on other hypervisors.
    fn name_region(&mut self, range: Range, name: &str) -> Result<(), Errno>;
    /// `pinfold_op` freed_map: says where the bits of a named range's freed pages are; -ENOSYS on
    /// other hypervisors. The hypervisor reads them until others are registered; the shim never
    /// frees them.
    fn freed_map(&mut self, start: Vaddr, bits: &[AtomicU64]) -> Result<(), Errno>;
    /// `pinfold_op` lazy_region: removes the name of the range that starts here; -ENOSYS on other
    /// hypervisors.
    fn forget_region(&mut self, start: Vaddr) -> Result<(), Errno>;
    /// `pinfold_op` find_aliases; -ENOSYS on other hypervisors.
    fn find_aliases(&mut self, frames: &[Mfn]) -> Result<Vec<Mapping>, Errno>;
    /// Takes the addresses of dead mappings that the alias upcall has cleared in the middle of a
    /// pin.
    fn take_cleared(&mut self) -> Vec<Vaddr> {
        Vec::new()
    }
}
