//! A vCPU's GDT and LDT: descriptor frames, mapped in the vCPU's part of the per-domain mappings.

use super::element_stop::ElementStop;
use super::ldt;
use super::vcpu::Vcpu;
use crate::memory::frame_refs::DescriptorRef;
use crate::memory::frames;
use crate::memory::guest::is_guest_range;
use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE, MAX_LDT_ENTRIES};
use pinfold_validator::{HypervisorFrames, Mfn, Purpose};
use spin::Once;

/// The frame of zeros that is mapped where a GDT has no page.
pub fn zeros() -> Mfn {
    static ZEROS: Once<HypervisorFrames> = Once::new();
    let zeros = ZEROS.call_once(|| {
        frames::alloc_hypervisor_frame(Purpose::ZeroPage)
            .expect("allocated before any guest has memory")
    });
    zeros.first()
}

/// Installs another GDT for a vCPU that is loaded on this CPU or not running.
///
/// # Errors
/// If a frame can't be a descriptor page, or is busy; then nothing has changed.
pub fn install_gdt(vcpu: &mut Vcpu, frames: &[u64], entries: u64) -> Result<(), ElementStop> {
    if entries > FIRST_RESERVED_GDT_ENTRY as u64 || frames.len() > FIRST_RESERVED_GDT_PAGE {
        return Err(Errno::EINVAL.into());
    }
    let new: ArrayVec<DescriptorRef, FIRST_RESERVED_GDT_PAGE> = frames
        .iter()
        .map(|&frame| DescriptorRef::get(vcpu.domain.id, Mfn::new(frame)))
        .collect::<Result<_, _>>()
        .map_err(|refusal| ElementStop::refused(vcpu, &refusal))?;
    vcpu.work.clear_retries();
    let mappings = &vcpu.domain.per_domain;
    for page in 0..FIRST_RESERVED_GDT_PAGE {
        mappings.set_gdt_page(vcpu.id, page, new.get(page), zeros());
    }
    // The old pages are unmapped now, so their references can go.
    drop(core::mem::replace(&mut vcpu.gdt, new));
    vcpu.gdt_entries = entries as u32;
    Ok(())
}

/// Sets the LDT of a vCPU, without loading it.
///
/// # Errors
/// EINVAL for a base or a size that no LDT can have.
pub fn set_ldt(vcpu: &mut Vcpu, base: u64, entries: u64) -> Result<(), Errno> {
    let bytes = entries.checked_mul(8).ok_or(Errno::EINVAL)?;
    if entries > u64::from(MAX_LDT_ENTRIES) || base & 4095 != 0 || !is_guest_range(base, bytes) {
        return Err(Errno::EINVAL);
    }
    ldt::forget(vcpu);
    vcpu.ldt = (base, entries as u32);
    Ok(())
}

/// Releases all descriptor frames of a vCPU that won't run again.
pub fn drop_all(vcpu: &mut Vcpu) {
    ldt::forget(vcpu);
    let mappings = &vcpu.domain.per_domain;
    for (page, unmapped) in core::mem::take(&mut vcpu.gdt).into_iter().enumerate() {
        mappings.set_gdt_page(vcpu.id, page, None, zeros());
        drop(unmapped);
    }
}
