//! update_va_mapping: updates the L1 entry that maps an address.

use super::outcome::{Outcome, create_continuation};
use super::{flush, memory_op};
use crate::diagnostics::report;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::ENTRIES;
use crate::memory;
use crate::memory::guest::is_guest_address;
use pinfold_abi::errno::Errno;
use pinfold_validator::{Budget, Error, Update, Vaddr};

/// `update_va_mapping(va, value, flags)`.
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let [va, value, flags, ..] = *args;
    if !is_guest_address(va) {
        return Outcome::Done(Errno::EINVAL.as_result());
    }
    let validator = memory::validator();
    let Ok(leaf) = validator.walk(vcpu.kernel_root.frame(), Vaddr::new(va)) else {
        return Outcome::Done(Errno::EINVAL.as_result());
    };
    let id = vcpu.domain.id;
    let update = Update {
        dom: id,
        table_owner: id,
        target_owner: id,
        table: leaf.table,
        index: leaf.index,
        value,
        preserve_ad: false,
    };
    vcpu.domain.stats.entry_updates.bump();
    let budget = &mut Budget::new(ENTRIES);
    let updated = validator.update(update, budget);
    vcpu.work.charge_used(budget);
    match updated {
        Ok(_) => flush::by_flags(vcpu, flags, va).into(),
        Err(Error::Preempted) => create_continuation(vcpu, *args),
        Err(stop @ Error::Refused(refusal)) => {
            report::stopped(vcpu, &stop);
            Outcome::Done(refusal.errno().as_result())
        }
    }
}

/// `update_va_mapping_otherdomain(va, value, flags, domid)`: no domain may
/// map another's frames, so `domid` can only be the caller.
pub fn run_other(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    match memory_op::check_domain(vcpu, args[3] as u16) {
        Ok(()) => run(vcpu, args),
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}
