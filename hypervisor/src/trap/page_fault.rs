//! Page faults: a page table's plain store, a page of the LDT, or the guest's own affair.

use super::{Fatal, bounce, debug, page_table_store, vector};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::domain::window::Window;
use crate::hypercall::descriptors;
use crate::memory::layout;
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

    // The processor read a descriptor for the guest: an implicit supervisor access to our window.
    let ldt = Window::ldt_base(vcpu.id).as_u64();
    if error & USER == 0
        && (ldt..ldt + (layout::VCPU_WINDOW - layout::LDT_OFFSET)).contains(&address)
    {
        let offset = address - ldt;
        return match descriptors::map_ldt_page(vcpu, offset) {
            Ok(()) => Ok(()),
            // As if the guest's own LDT page had faulted.
            Err(_) => deliver(vcpu, vcpu.ldt.0.wrapping_add(offset), error),
        };
    }
    let store = error & (PROTECTION | WRITE) == PROTECTION | WRITE;
    if store && vcpu.mode == Mode::Kernel && page_table_store::try_emulate(vcpu, address) {
        return debug::step(vcpu);
    }
    deliver(vcpu, address, error)
}

/// Tells the guest of a page fault at `address`.
pub fn deliver(vcpu: &mut Vcpu, address: u64, error: u32) -> Result<(), Fatal> {
    // Guest kernel and guest user are both ring 3; the bit tells them apart as on hardware.
    let error = match vcpu.mode {
        Mode::Kernel => error & !USER,
        Mode::User => error | USER,
    };
    vcpu.info.cr2().store(address, Ordering::Relaxed);
    bounce::exception(vcpu, vector::PAGE_FAULT, Some(error))
}
