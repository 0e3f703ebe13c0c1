//! The real machine: [`Platform`] by hypercalls.

use super::boot::Boot;
use super::memory::Frames;
use super::percpu::this;
use crate::addr::{Mfn, Pfn, Vaddr};
use crate::hypercall::{Errno, address, call, check};
use crate::platform::{Platform, ShootdownResult};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use pinfold_abi::domid;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::mmu::{MmuUpdate, MmuextOp};
use pinfold_abi::pinfold::{
    self, Command, FindAliases, FreedMap, LazyRegion, Mapping, Range, Shootdown,
};
use pinfold_abi::shared_info::LEGACY_VCPUS;

/// Calls in one multicall.
const BATCH: usize = 32;
/// Most mappings that one search returns.
const MAPPINGS: usize = 64;

/// The machine.
#[derive(Debug)]
pub struct Native {
    frames: Frames,
    /// The root that each vCPU's kernel runs on: at first the builder's.
    roots: [Pfn; LEGACY_VCPUS],
}

impl Native {
    /// # Safety
    ///
    /// There must be only one. Its owner changes mappings and writes frames; it must leave alone
    /// the image, the heap, the stack, the start-of-day page and the p2m list.
    pub(super) unsafe fn new(boot: &Boot) -> Native {
        let frames = Frames::new(boot);
        let root = frames.pfn(frames.boot_root()).unwrap_or_default();
        Native { frames, roots: [root; LEGACY_VCPUS] }
    }
}

/// Makes `pinfold_op`.
///
/// # Safety
///
/// The argument must be the command's structure, and what it points to must be valid for what the
/// command does.
unsafe fn pinfold_op<T>(command: Command, argument: &mut T) -> Result<u64, Errno> {
    let args = [command as u64, address(core::ptr::from_mut(argument)), 0, 0, 0];
    // SAFETY: passed on to the caller.
    check(unsafe { call(Hypercall::PinfoldOp as u64, args) })
}

impl Platform for Native {
    fn mfn(&self, pfn: Pfn) -> Mfn {
        match self.frames.mfn(pfn) {
            Some(mfn) => mfn,
            None => panic!("there is no frame {pfn}"),
        }
    }

    fn pfn(&self, mfn: Mfn) -> Option<Pfn> {
        self.frames.pfn(mfn)
    }

    fn direct_map_va(&self, pfn: Pfn) -> Vaddr {
        self.frames.va(pfn)
    }

    fn root(&self) -> Pfn {
        self.roots[this().id() as usize]
    }

    fn set_root(&mut self, root: Pfn) {
        self.roots[this().id() as usize] = root;
    }

    fn load(&self, va: Vaddr) -> u64 {
        // SAFETY: reading memory of the guest is harmless; an address that is not mapped ends in
        // a trap.
        unsafe { (va.0 as *const u64).read_volatile() }
    }

    fn store(&mut self, va: Vaddr, word: u64) {
        // SAFETY: the owner of this leaves alone what Rust relies on.
        unsafe { (va.0 as *mut u64).write_volatile(word) }
    }

    fn mmu_update(&mut self, requests: &[MmuUpdate]) -> Result<(), Errno> {
        let list = address(requests.as_ptr());
        let args = [list, requests.len() as u64, 0, domid::SELF.into(), 0];
        // SAFETY: the call reads the list; which mappings change is this type's contract.
        check(unsafe { call(Hypercall::MmuUpdate as u64, args) }).map(drop)
    }

    fn mmuext_op(&mut self, ops: &[MmuextOp]) -> Result<(), Errno> {
        let args = [address(ops.as_ptr()), ops.len() as u64, 0, domid::SELF.into(), 0];
        // SAFETY: as above.
        check(unsafe { call(Hypercall::MmuextOp as u64, args) }).map(drop)
    }

    fn update_va_mappings(&mut self, entries: &[(Vaddr, u64)], flags: u64) -> Result<(), Errno> {
        if let [(va, entry)] = entries {
            let args = [va.0, *entry, flags, 0, 0];
            // SAFETY: as above.
            return check(unsafe { call(Hypercall::UpdateVaMapping as u64, args) }).map(drop);
        }
        for some in entries.chunks(BATCH) {
            let mut list: arrayvec::ArrayVec<MulticallEntry, BATCH> = some
                .iter()
                .map(|(va, entry)| MulticallEntry {
                    op: Hypercall::UpdateVaMapping as u64,
                    result: 0,
                    args: [va.0, *entry, flags, 0, 0, 0],
                })
                .collect();
            let args = [address(list.as_mut_ptr()), list.len() as u64, 0, 0, 0];
            // SAFETY: the call reads the list and writes results into it; as above for the rest.
            check(unsafe { call(Hypercall::Multicall as u64, args) })?;
            for entry in &list {
                check(entry.result)?;
            }
        }
        Ok(())
    }

    fn shootdown(&mut self, ranges: &[Range]) -> Result<ShootdownResult, Errno> {
        let mut argument = Shootdown {
            version: pinfold::VERSION,
            nr_ranges: ranges.len() as u32,
            ranges: address(ranges.as_ptr()),
            ..Shootdown::default()
        };
        // SAFETY: the call reads the list and writes the structure; which mappings change is this
        // type's contract.
        unsafe { pinfold_op(Command::Shootdown, &mut argument) }?;
        Ok(ShootdownResult { cleared: argument.cleared, flushed: argument.flushed_cpus })
    }

    fn name_region(&mut self, range: Range, name: &str) -> Result<(), Errno> {
        let mut argument = LazyRegion {
            version: pinfold::VERSION,
            action: pinfold::REGION_ADD,
            range,
            name: [0; 32],
        };
        let length = name.len().min(31);
        argument.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        // SAFETY: the call reads the structure.
        unsafe { pinfold_op(Command::LazyRegion, &mut argument) }.map(drop)
    }

    fn freed_map(&mut self, start: Vaddr, bits: &[AtomicU64]) -> Result<(), Errno> {
        let mut argument = FreedMap {
            version: pinfold::VERSION,
            pad: 0,
            start: start.0,
            bits: address(bits.as_ptr()),
        };
        // SAFETY: the call reads the structure; the bits are only ever read.
        unsafe { pinfold_op(Command::FreedMap, &mut argument) }.map(drop)
    }

    fn forget_region(&mut self, start: Vaddr) -> Result<(), Errno> {
        let mut argument = LazyRegion {
            version: pinfold::VERSION,
            action: pinfold::REGION_REMOVE,
            range: Range { start: start.0, pages: 0 },
            name: [0; 32],
        };
        // SAFETY: the call reads the structure.
        unsafe { pinfold_op(Command::LazyRegion, &mut argument) }.map(drop)
    }

    fn find_aliases(&mut self, frames: &[Mfn]) -> Result<Vec<Mapping>, Errno> {
        let frames: Vec<u64> = frames.iter().map(|mfn| mfn.0).collect();
        let mut found = alloc::vec![Mapping::default(); MAPPINGS];
        let mut argument = FindAliases {
            version: pinfold::VERSION,
            nr_frames: frames.len() as u32,
            frames: address(frames.as_ptr()),
            mappings: address(found.as_mut_ptr()),
            nr_mappings: MAPPINGS as u32,
            flags: 0,
        };
        // SAFETY: the call reads the frames and writes at most as many mappings as there is room.
        unsafe { pinfold_op(Command::FindAliases, &mut argument) }?;
        found.truncate(argument.nr_mappings as usize);
        Ok(found)
    }

    fn take_cleared(&mut self) -> Vec<Vaddr> {
        super::alias::take_cleared().collect()
    }
}
