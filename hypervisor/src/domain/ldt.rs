//! The pages of a vCPU's LDT: each is mapped in the per-domain area when the CPU first reads a
//! descriptor from it.
//!
//! The CPU reads one when the guest loads a selector, and when the hypervisor does so for the guest:
//! by `iretq` when it resumes the guest, or when it restores segment registers. In the first two
//! cases the read faults in the per-domain area and the page is mapped then; in the last case it is
//! mapped before.

use super::element_stop::ElementStop;
use super::per_domain::PerDomainMappings;
use super::vcpu::Vcpu;
use crate::arch::layout;
use crate::memory;
use crate::memory::frame_refs::DescriptorRef;
use pinfold_abi::errno::Errno;
use pinfold_validator::Vaddr;

/// Selector bit 2: the descriptor is in the LDT (Intel SDM vol. 3, 3.4.2).
const TABLE_INDICATOR: u16 = 1 << 2;

/// Offset in the vCPU's LDT of an address that faulted, if it is in the LDT's part of the per-domain
/// area.
pub fn offset_of(vcpu: &Vcpu, address: u64) -> Option<u64> {
    let start = PerDomainMappings::ldt_base(vcpu.id).as_u64();
    let offset = address.checked_sub(start)?;
    (offset < layout::VCPU_MAPPINGS_BYTES - layout::LDT_OFFSET).then_some(offset)
}

/// Maps the page at `offset` of the LDT.
///
/// # Errors
/// If the guest has no page there, or it can't be a descriptor page: then the fault is delivered to
/// the guest. [`ElementStop::Preempted`] if the frame is busy: the guest's access is restarted.
pub fn map_page(vcpu: &mut Vcpu, offset: u64) -> Result<(), ElementStop> {
    let page = (offset / 4096) as usize;
    // XSA-298: the limit is checked, not just the base.
    if offset / 8 >= u64::from(vcpu.ldt.1) || vcpu.ldt_pages[page].is_some() {
        return Err(Errno::EINVAL.into());
    }
    let address = vcpu.ldt.0 + page as u64 * 4096;
    let validator = memory::validator();
    let leaf =
        validator.walk(vcpu.kernel_root.frame(), Vaddr::new(address)).map_err(|_| Errno::EFAULT)?;
    let frame = leaf.entry.target().ok_or(Errno::EFAULT)?;
    let page_ref = DescriptorRef::get(vcpu.domain.id, frame)
        .map_err(|refusal| ElementStop::refused(vcpu, &refusal))?;
    vcpu.work.clear_retries();
    vcpu.domain.per_domain.set_ldt_page(vcpu.id, page, Some(&page_ref));
    vcpu.ldt_pages[page] = Some(page_ref);
    Ok(())
}

/// Maps the LDT pages of selectors that the hypervisor is about to load. If one can't be mapped, the
/// load fails as for any bad selector.
pub fn map_for_selectors(vcpu: &mut Vcpu, selectors: &[u16]) {
    for &selector in selectors {
        if selector & TABLE_INDICATOR != 0 {
            let _ = map_page(vcpu, u64::from(selector & !7));
        }
    }
}

/// Unmaps and releases all pages of the LDT.
pub fn forget(vcpu: &mut Vcpu) {
    for page in 0..vcpu.ldt_pages.len() {
        if let Some(unmapped) = vcpu.ldt_pages[page].take() {
            vcpu.domain.per_domain.set_ldt_page(vcpu.id, page, None);
            drop(unmapped);
        }
    }
    vcpu.ldt = (0, 0);
}
