//! mmu_update: checked writes to page tables, by machine address.

use super::continuation::run_list;
use super::outcome::Outcome;
use crate::diagnostics::report;
use crate::domain::element_stop::ElementStop;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::GuestPtr;
use crate::memory::{self, m2p};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::*;
use pinfold_validator::{Budget, Index, Mfn, Update};

/// `mmu_update(requests, count, done*, foreigndom)`.
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    if let Err(errno) = check_foreign(vcpu, args[3]) {
        return Outcome::Done(errno.as_result());
    }
    run_list(vcpu, args, size_of::<MmuUpdate>() as u64, |vcpu, address, _, budget| {
        one(vcpu, address, budget)
    })
}

/// Bits 0-15: owner of the targets; bits 16-31: owner of the tables plus one, 0 for own. No domain
/// here may touch another's frames.
fn check_foreign(vcpu: &Vcpu, foreign: u64) -> Result<(), Errno> {
    let own = |id: u16| id == domid::SELF || id == vcpu.domain.id.get();
    let target = foreign as u16;
    let table = (foreign >> 16) as u16;
    if table != 0 && !own(table - 1) {
        return Err(Errno::ESRCH);
    }
    match target {
        id if own(id) => Ok(()),
        domid::IO | domid::XEN => Err(Errno::EPERM),
        _ => Err(Errno::ESRCH),
    }
}

fn one(vcpu: &Vcpu, address: u64, budget: &mut Budget) -> Result<(), ElementStop> {
    let request = GuestPtr::<MmuUpdate>::new(address).read()?;
    // Bits 0 to 2: entries are 8-byte aligned, so a misaligned pointer is an unknown command.
    match request.ptr & 7 {
        MMU_MACHPHYS_UPDATE => set_m2p(vcpu, request),
        kind @ (MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_PRESERVE_AD | MMU_PT_UPDATE_NO_TRANSLATE) => {
            update(vcpu, request, kind == MMU_PT_UPDATE_PRESERVE_AD, budget)
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn set_m2p(vcpu: &Vcpu, request: MmuUpdate) -> Result<(), ElementStop> {
    let mfn = Mfn::new(request.ptr >> 12);
    m2p::set_owned(vcpu.domain.id, mfn, request.val).map_err(|_| Errno::EINVAL.into())
}

fn update(
    vcpu: &Vcpu,
    request: MmuUpdate,
    preserve_ad: bool,
    budget: &mut Budget,
) -> Result<(), ElementStop> {
    let ptr = request.ptr;
    let domain = &vcpu.domain;
    let update = Update {
        dom: domain.id,
        table_owner: domain.id,
        target_owner: domain.id,
        table: Mfn::new(ptr >> 12),
        index: Index::new((ptr >> 3) as usize & 511),
        value: request.val,
        preserve_ad,
    };
    domain.stats.entry_updates.bump();
    memory::validator().update(update, budget).map_err(|stop| {
        report::stopped(vcpu, &stop);
        ElementStop::from(stop)
    })?;
    Ok(())
}
