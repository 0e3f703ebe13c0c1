//! Copies between the hypervisor and the address space of a guest in a hardware container.
//!
//! The hypervisor isn't mapped in the roots of such a guest, so it can't run on them: it walks the tables
//! in software and accesses the frames through the direct map.
//!
//! That is as safe as the copies on a loaded root ([`crate::arch::user_copy`]), for the same reason. While
//! a vCPU is loaded, this CPU is in the set of those that may hold translations of its domain. So no
//! frame that a table maps, and no table, becomes something else before this CPU has served a flush
//! request; and it serves none from the beginning of a walk to the end of the access, with interrupts
//! disabled.
//!
//! The last translations are kept ([`crate::arch::walk_cache`]) until this CPU flushes, or enters the
//! guest.

use super::direct_map;
use crate::arch::percpu;
use crate::arch::user_copy::{self, Fault};
use crate::arch::walk_cache::Walk;
use core::sync::atomic::Ordering;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};
use pinfold_validator::{Level, Mfn, Vaddr};

const PRESENT: u64 = EntryFlags::PRESENT.bits();
const WRITABLE: u64 = EntryFlags::WRITABLE.bits();
const ACCESSED: u64 = EntryFlags::ACCESSED.bits();
const DIRTY: u64 = EntryFlags::DIRTY.bits();

/// What is done at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Finds the byte of the direct map that an address is mapped to, among the kept translations or by a walk.
///
/// # Errors
/// As [`walk`].
///
/// # Safety
/// The root is that of the loaded vCPU.
#[inline]
unsafe fn find(root: Mfn, address: u64, access: Access) -> Result<*mut u8, Fault> {
    let kept = percpu::this().find_walk(address / PAGE_SIZE, access == Access::Write);
    let frame = match kept {
        Some(frame) => frame,
        // SAFETY: the caller's promise.
        None => unsafe { walk(root, address, access) }?,
    };
    Ok(frame.wrapping_add((address % PAGE_SIZE) as usize))
}

/// Walks the tables to the frame that an address is mapped to, and keeps the translation.
///
/// # Errors
/// If it isn't mapped, or is to be written and read-only.
///
/// # Safety
/// The root is that of the loaded vCPU.
#[inline(never)]
unsafe fn walk(root: Mfn, address: u64, access: Access) -> Result<*mut u8, Fault> {
    let needed = if access == Access::Write { PRESENT | WRITABLE } else { PRESENT };
    let at = Vaddr::new(address);
    let mut table = root;
    for level in [Level::L4, Level::L3, Level::L2] {
        // SAFETY: the root and what its entries refer to are validated tables: see above.
        let entry = unsafe { direct_map::entry(table, at.index(level)) };
        // Acquire: pairs with the validator's stores; the table below is initialised.
        let entry = entry.load(Ordering::Acquire);
        // Validated tables map no large pages.
        if entry & needed != needed {
            return Err(Fault);
        }
        table = Mfn::from_address(entry & ENTRY_ADDRESS);
    }
    // SAFETY: as above.
    let slot = unsafe { direct_map::entry(table, at.index(Level::L1)) };
    let entry = slot.load(Ordering::Acquire);
    if entry & needed != needed {
        return Err(Fault);
    }
    let used = if access == Access::Write { ACCESSED | DIRTY } else { ACCESSED };
    if entry & used != used {
        // As a page walk of the CPU. If the entry changes at this moment, the access came first.
        let _ = slot.compare_exchange(entry, entry | used, Ordering::AcqRel, Ordering::Relaxed);
    }
    let frame = direct_map::frame(Mfn::from_address(entry & ENTRY_ADDRESS));
    percpu::this().keep_walk(Walk {
        page: address / PAGE_SIZE,
        frame,
        is_writable: access == Access::Write,
    });
    Ok(frame)
}

/// Bytes from an address to the end of its page.
fn left_in_page(address: u64) -> usize {
    (PAGE_SIZE - address % PAGE_SIZE) as usize
}

/// Copies bytes from a guest's address space.
///
/// # Errors
/// If a page is absent.
///
/// # Safety
/// The root is that of the loaded vCPU, and the range is a guest's.
#[cold]
#[inline(never)]
pub unsafe fn read(root: Mfn, to: &mut [u8], from: u64) -> Result<(), Fault> {
    let (mut at, mut rest) = (from, to);
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(rest.len().min(left_in_page(at)));
        // SAFETY: the caller's promise. The bytes lie in a frame of RAM, which a guest may write
        // meanwhile: any bytes do.
        unsafe {
            let frame = find(root, at, Access::Read)?;
            user_copy::copy(now.as_mut_ptr(), frame, now.len());
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// Copies bytes to a guest's address space.
///
/// # Errors
/// If a page is absent or read-only. Pages before that one are written.
///
/// # Safety
/// As for [`read`].
#[cold]
#[inline(never)]
pub unsafe fn write(root: Mfn, to: u64, from: &[u8]) -> Result<(), Fault> {
    let (mut at, mut rest) = (to, from);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(left_in_page(at)));
        // SAFETY: the caller's promise. The guest could write the bytes itself.
        unsafe {
            let frame = find(root, at, Access::Write)?;
            user_copy::copy(frame, now.as_ptr(), now.len());
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}
