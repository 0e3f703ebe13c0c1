//! The pages of a vCPU's LDT: each is shown in the vCPU's window when the processor first wants a
//! descriptor of it.
//!
//! The processor wants one when the guest loads a selector, and when the hypervisor does it for
//! the guest: by `iretq` on the way back, or by loading what was in the segment registers while
//! another vCPU ran. In the first two cases it faults on the window and the page is mapped then; in
//! the last one before the load.

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

/// Where in its LDT a vCPU's processor read, if it faulted at this address.
pub fn offset_of(vcpu: &Vcpu, address: u64) -> Option<u64> {
    let start = PerDomainMappings::ldt_base(vcpu.id).as_u64();
    let offset = address.checked_sub(start)?;
    (offset < layout::VCPU_MAPPINGS_BYTES - layout::LDT_OFFSET).then_some(offset)
}

/// Maps the page that the processor wanted at `offset` of the LDT.
///
/// # Errors
/// If the guest has no such page there, or it can't be a descriptor page: the fault is the
/// guest's. [`ElementStop::Preempted`]: others are at the page; the guest touches it again.
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
    vcpu.work.succeeded();
    vcpu.domain.per_domain.set_ldt_page(vcpu.id, page, Some(&page_ref));
    vcpu.ldt_pages[page] = Some(page_ref);
    Ok(())
}

/// Maps the pages that selectors want which the hypervisor is about to load. One that can't be
/// mapped makes the load fail, as any bad selector does.
pub fn map_for_selectors(vcpu: &mut Vcpu, selectors: &[u16]) {
    for &selector in selectors {
        if selector & TABLE_INDICATOR != 0 {
            let _ = map_page(vcpu, u64::from(selector & !7));
        }
    }
}

/// Forgets the table and drops its pages.
pub fn forget(vcpu: &mut Vcpu) {
    for page in 0..vcpu.ldt_pages.len() {
        if let Some(unmapped) = vcpu.ldt_pages[page].take() {
            vcpu.domain.per_domain.set_ldt_page(vcpu.id, page, None);
            drop(unmapped);
        }
    }
    vcpu.ldt = (0, 0);
}
