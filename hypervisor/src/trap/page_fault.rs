//! Page faults of guests: stores to page tables, pages of the LDT, or faults to deliver.

use super::debug;
use super::page_table_store::{self, Store};
use crate::arch::vector;
use crate::domain::element_stop::ElementStop;
use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::domain::{bounce, ldt};
use crate::memory::isolation;
use core::sync::atomic::Ordering;
use x86_64::registers::control::Cr2;

/// Error-code bits (Intel SDM vol. 3, 4.7).
const PROTECTION: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;

/// Handles a fault of the guest.
pub fn handle(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let address = Cr2::read_raw();
    vcpu.last_fault_address = address;
    let error = vcpu.file.regs.error_code;

    if isolation::is_active() && isolation::refresh_after_fault(address) {
        return Ok(());
    }
    // The CPU read a descriptor: an implicit supervisor access to the per-domain mappings.
    if error & USER == 0
        && let Some(offset) = ldt::offset_of(vcpu, address)
    {
        return show_descriptor(vcpu, offset, error);
    }
    let store = error & (PROTECTION | WRITE) == PROTECTION | WRITE;
    if store && vcpu.mode == Mode::Kernel {
        match page_table_store::try_emulate(vcpu, address) {
            Store::Done => return debug::step(vcpu),
            Store::Again => return Ok(()),
            Store::Preempted => {
                vcpu.domain.stats.preemptions.bump();
                vcpu.work.yield_before_retry();
                return Ok(());
            }
            Store::NotOurs => {}
        }
    }
    deliver(vcpu, address, error)
}

/// Handles a page fault of `iretq` to the guest, which reads nothing of the guest's but descriptors.
/// Those in the GDT are always mapped; a page of the LDT is mapped, and the return tried again.
pub fn handle_return(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let address = Cr2::read_raw();
    let error = vcpu.file.regs.error_code;
    match ldt::offset_of(vcpu, address) {
        Some(offset) => show_descriptor(vcpu, offset, error),
        // The guest must not learn of an address of the hypervisor's.
        None => bounce::general_protection(vcpu, 0),
    }
}

/// Maps the page of the LDT that the CPU read, or delivers a fault as if the guest's own page had
/// faulted.
fn show_descriptor(vcpu: &mut Vcpu, offset: u64, error: u32) -> Result<(), Fatal> {
    match ldt::map_page(vcpu, offset) {
        Ok(()) => Ok(()),
        Err(ElementStop::Preempted | ElementStop::Upcall) => {
            vcpu.work.yield_before_retry();
            Ok(())
        }
        Err(ElementStop::Errno(_)) => deliver(vcpu, vcpu.ldt.0.wrapping_add(offset), error),
    }
}

/// Delivers a page fault at `address`.
pub fn deliver(vcpu: &mut Vcpu, address: u64, error: u32) -> Result<(), Fatal> {
    // Guest kernel and guest user both run in ring 3; the bit must be as if the kernel didn't.
    let error = match vcpu.mode {
        Mode::Kernel => error & !USER,
        Mode::User => error | USER,
    };
    vcpu.info.cr2().store(address, Ordering::Relaxed);
    bounce::exception(vcpu, vector::PAGE_FAULT, Some(error))
}
