//! Grants between domains: [`pinfold_core::grant`] for the domains of this machine.
//!
//! | file           | about                     |
//! |----------------|---------------------------|
//! | `copy_operand` | an operand of a copy      |
#![expect(unsafe_code, reason = "gives grant tables access to their frames")]

pub mod copy_operand;

use crate::domain::vcpu::Vcpu;
use crate::domain::{self, DomainRef, work};
use crate::memory::frames;
use crate::memory::platform::MachinePlatform;
use crate::sync::ServiceIpis;
use pinfold_abi::domid;
use pinfold_core::grant;
use pinfold_validator::DomId;

/// Budget for mapping or unmapping one frame, deferred work of the domain included.
const ELEMENT_ENTRIES: u32 = work::ENTRIES / 8;

/// A domain's grant table, and the grants that it has mapped.
pub type GrantState = grant::GrantState<MachinePlatform, ServiceIpis>;

/// A domain that maps granted frames.
pub type GrantMapper<'a> =
    grant::mapping::GrantMapper<'a, 'static, MachinePlatform, MachinePlatform, ServiceIpis, Listed>;

/// Access of grant tables to their frames.
pub fn platform() -> MachinePlatform {
    // SAFETY: a grant table names only frames that it allocated for itself.
    unsafe { MachinePlatform::new() }
}

/// The domains on the list, for [`pinfold_core::grant`].
#[derive(Debug)]
pub struct Listed;

impl grant::Domains<MachinePlatform, ServiceIpis> for Listed {
    fn with_grants<T>(&self, dom: DomId, work: impl FnOnce(&GrantState) -> T) -> Option<T> {
        domain::find(dom).map(|domain| work(&domain.grants))
    }
}

/// The domain of a vCPU, as the one that maps granted frames.
pub fn mapper(vcpu: &Vcpu) -> GrantMapper<'_> {
    GrantMapper {
        allocator: frames::allocator(),
        domains: &Listed,
        dom: vcpu.domain.id,
        grants: &vcpu.domain.grants,
        root: vcpu.kernel_root.frame(),
        budget: ELEMENT_ENTRIES,
    }
}

/// The domain that a domid names, if it exists: the caller's own number and DOMID_SELF mean itself.
pub fn resolve_domid(caller: &DomainRef, number: u16) -> Option<DomainRef> {
    if number == domid::SELF || number == caller.id.get() {
        return Some(caller.clone());
    }
    domain::find(DomId::new(number))
}
