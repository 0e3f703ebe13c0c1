//! A vCPU's GDT and LDT: descriptor frames, mapped in the vCPU's part of the per-domain mappings.

use super::element_stop::ElementStop;
use super::ldt;
use super::vcpu::Vcpu;
use crate::memory::frame_refs::get_descriptor_ref;
use crate::memory::guest::is_guest_range;
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
