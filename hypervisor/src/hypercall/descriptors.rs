//! set_gdt, update_descriptor and SET_LDT.
#![expect(unsafe_code, reason = "loads the LDT of the vCPU that is loaded")]

use crate::arch::percpu;
use crate::domain::descriptors::{install_gdt, set_ldt};
use crate::domain::element_stop::ElementStop;
use crate::domain::per_domain::PerDomainMappings;
use crate::domain::vcpu::Vcpu;
use crate::memory;
use crate::memory::frame_refs::retry_while_busy;
use crate::memory::guest::GuestPtr;
use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE};
use pinfold_validator::Mfn;

/// `set_gdt(frames*, entries)`.
pub fn set_gdt(vcpu: &mut Vcpu, list: u64, entries: u64) -> Result<(), ElementStop> {
    if entries > FIRST_RESERVED_GDT_ENTRY as u64 {
        return Err(Errno::EINVAL.into());
    }
    let list = GuestPtr::<u64>::new(list);
    let mut frames: ArrayVec<u64, FIRST_RESERVED_GDT_PAGE> = ArrayVec::new();
    for page in 0..(entries as usize).div_ceil(512) {
        frames.push(list.read_at(page as u64)?);
    }
    install_gdt(vcpu, &frames, entries)
}

/// `update_descriptor(machine address, descriptor)`.
pub fn update_descriptor(vcpu: &Vcpu, address: u64, value: u64) -> Result<(), ElementStop> {
    if address & 7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let slot = (address >> 3) as usize & 511;
    let (id, frame) = (vcpu.domain.id, Mfn::new(address >> 12));
    retry_while_busy(|| memory::validator().update_descriptor(id, frame, slot, value))
        .map_err(|refusal| ElementStop::refused(vcpu, &refusal))?;
    vcpu.work.clear_retries();
    Ok(())
}

/// `mmuext_op` SET_LDT: `entries` descriptors from a linear address on; pages are
/// mapped when the CPU first reads them.
pub fn load_ldt(vcpu: &mut Vcpu, base: u64, entries: u64) -> Result<(), Errno> {
    set_ldt(vcpu, base, entries)?;
    // SAFETY: the vCPU is loaded, and this is its own part of the per-domain mappings.
    unsafe { percpu::this().gdt.load_ldt(PerDomainMappings::ldt_base(vcpu.id), vcpu.ldt.1) };
    Ok(())
}
