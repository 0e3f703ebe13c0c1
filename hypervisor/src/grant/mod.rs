//! Frames that domains grant each other: [`pinfold_core::grant`] over the machine's domains.
//!
//! | file   | about                         |
//! |--------|-------------------------------|
//! | `copy_operand` | holding a frame for a copy    |

pub mod copy_operand;

use crate::domain::vcpu::Vcpu;
use crate::domain::{self, DomainRef, work};
use crate::memory::frames;
use crate::memory::platform::MachinePlatform;
use crate::sync::ServiceIpis;
use pinfold_abi::domid;
use pinfold_core::grant;
use pinfold_validator::DomId;

/// Table entries that mapping or unmapping one frame may visit: what is left to be taken apart of
/// the domain's own tables comes first.
const ELEMENT_ENTRIES: u32 = work::ENTRIES / 8;

/// A domain's part in lending.
pub type GrantState = grant::GrantState<MachinePlatform, ServiceIpis>;

/// Who maps granted frames.
pub type Borrower<'a> =
    grant::mapping::Borrower<'a, 'static, MachinePlatform, MachinePlatform, ServiceIpis, Listed>;

/// How the grant tables reach their frames.
pub fn platform() -> MachinePlatform {
    // SAFETY: a grant table names only frames that it allocated for itself.
    unsafe { MachinePlatform::new() }
}

/// The domains on the list.
#[derive(Debug)]
pub struct Listed;

impl grant::Domains<MachinePlatform, ServiceIpis> for Listed {
    fn with_grants<T>(&self, dom: DomId, work: impl FnOnce(&GrantState) -> T) -> Option<T> {
        domain::find(dom).map(|domain| work(&domain.grants))
    }
}

/// The domain of a vCPU, as one that maps granted frames.
pub fn borrower(vcpu: &Vcpu) -> Borrower<'_> {
    Borrower {
        allocator: frames::allocator(),
        domains: &Listed,
        dom: vcpu.domain.id,
        grants: &vcpu.domain.grants,
        root: vcpu.kernel_root.frame(),
        budget: ELEMENT_ENTRIES,
    }
}

/// The domain that a call names, if there is one: itself by its own number or as such, or another.
pub fn resolve_domid(caller: &DomainRef, number: u16) -> Option<DomainRef> {
    if number == domid::SELF || number == caller.id.get() {
        return Some(caller.clone());
    }
    domain::find(DomId::new(number))
}
