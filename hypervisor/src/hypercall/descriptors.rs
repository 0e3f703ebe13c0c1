//! set_gdt, update_descriptor and the LDT: descriptor frames, shown in the vCPU's window.

use super::continuation::ElementStop;
use crate::arch::percpu;
use crate::domain::ldt;
use crate::domain::per_domain::PerDomainMappings;
use crate::domain::vcpu::Vcpu;
use crate::memory::frame_refs::{get_descriptor_ref, retry_while_busy};
use crate::memory::guest::{GuestPtr, is_guest_range};
use crate::memory::{self, frames};
use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE, MAX_LDT_ENTRIES};
use pinfold_validator::{HypervisorFrames, Mfn, Purpose};
use spin::Once;

/// A frame of zeros, shown where a GDT has no page.
pub fn zeros() -> Mfn {
    static ZEROS: Once<HypervisorFrames> = Once::new();
    let zeros = ZEROS.call_once(|| {
        frames::alloc_hypervisor_frame(Purpose::ZeroPage)
            .expect("allocated before any guest has memory")
    });
    zeros.first()
}

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

/// Gives a vCPU another GDT: one that is loaded here, or doesn't run.
///
/// # Errors
/// A frame can't be a descriptor page, or not now: then all is as it was.
pub fn install_gdt(vcpu: &mut Vcpu, frames: &[u64], entries: u64) -> Result<(), ElementStop> {
    if entries > FIRST_RESERVED_GDT_ENTRY as u64 || frames.len() > FIRST_RESERVED_GDT_PAGE {
        return Err(Errno::EINVAL.into());
    }
    let new: ArrayVec<Mfn, FIRST_RESERVED_GDT_PAGE> =
        frames.iter().copied().map(Mfn::new).collect();
    let (validator, id) = (memory::validator(), vcpu.domain.id);
    for (taken, &frame) in new.iter().enumerate() {
        if let Err(refusal) = get_descriptor_ref(id, frame) {
            for &frame in &new[..taken] {
                validator.put_descriptor_ref(id, frame);
            }
            return Err(ElementStop::refused(vcpu, &refusal));
        }
    }
    vcpu.work.succeeded();
    let window = &vcpu.domain.per_domain;
    for page in 0..FIRST_RESERVED_GDT_PAGE {
        window.set_gdt_page(vcpu.id, page, new.get(page).copied(), zeros());
    }
    let old = core::mem::replace(&mut vcpu.gdt, new);
    vcpu.gdt_entries = entries as u32;
    for frame in old {
        validator.put_descriptor_ref(id, frame);
    }
    Ok(())
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
    vcpu.work.succeeded();
    Ok(())
}

/// `mmuext_op` SET_LDT: `entries` descriptors from a linear address on; pages are taken when the
/// processor first reads them.
pub fn load_ldt(vcpu: &mut Vcpu, base: u64, entries: u64) -> Result<(), Errno> {
    set_ldt(vcpu, base, entries)?;
    // SAFETY: the vCPU is loaded, and this is its own window.
    unsafe { percpu::this().gdt.load_ldt(PerDomainMappings::ldt_base(vcpu.id), vcpu.ldt.1) };
    Ok(())
}

/// Gives a vCPU another LDT, which isn't loaded yet.
pub fn set_ldt(vcpu: &mut Vcpu, base: u64, entries: u64) -> Result<(), Errno> {
    let bytes = entries.checked_mul(8).ok_or(Errno::EINVAL)?;
    if entries > u64::from(MAX_LDT_ENTRIES) || base & 4095 != 0 || !is_guest_range(base, bytes) {
        return Err(Errno::EINVAL);
    }
    ldt::forget(vcpu);
    vcpu.ldt = (base, entries as u32);
    Ok(())
}

/// Drops every descriptor frame of a vCPU that runs no more.
pub fn drop_all(vcpu: &mut Vcpu) {
    ldt::forget(vcpu);
    let window = &vcpu.domain.per_domain;
    for (page, frame) in core::mem::take(&mut vcpu.gdt).into_iter().enumerate() {
        window.set_gdt_page(vcpu.id, page, None, zeros());
        memory::validator().put_descriptor_ref(vcpu.domain.id, frame);
    }
}
