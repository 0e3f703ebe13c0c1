//! The roots of a vCPU's address spaces: references on them, and loading another.

use super::context;
use super::element_stop::ElementStop;
use super::hooks::pinfold_report_refusal;
use super::vcpu::Vcpu;
use crate::memory::{self, platform};
use pinfold_validator::{Error, Mfn};

/// Takes a reference on a root, for a vCPU that is to load it.
pub fn get_root_ref(vcpu: &Vcpu, mfn: Mfn) -> Result<(), ElementStop> {
    let (validator, id) = (memory::validator(), vcpu.domain.id);
    let taken = vcpu.work.attempt(|budget| validator.get_root_ref(id, mfn, budget));
    taken.map_err(|stop| {
        if let Error::Refused(refusal) = &stop {
            pinfold_report_refusal(vcpu, refusal);
        }
        ElementStop::from(stop)
    })
}

/// Drops the reference on a root that isn't loaded any more. What one attempt doesn't reach of
/// taking it apart is left to the domain's next operation.
pub fn put_root_ref(vcpu: &Vcpu, mfn: Mfn) {
    let (validator, id) = (memory::validator(), vcpu.domain.id);
    vcpu.work.attempt(|budget| validator.put_root_ref(id, mfn, budget));
}

/// Loads a root, as `mov cr3` does.
///
/// # Errors
/// If it is no root of the guest's; [`ElementStop::Preempted`]: nothing changed, and the frames hold
/// what was validated so far.
pub fn new_root(vcpu: &mut Vcpu, mfn: Mfn) -> Result<(), ElementStop> {
    if mfn == vcpu.kernel_root {
        memory::tlb::flush_local();
        return Ok(());
    }
    get_root_ref(vcpu, mfn)?;
    platform::set_m2p_visible(mfn, true);
    let old = core::mem::replace(&mut vcpu.kernel_root, mfn);
    context::reload_root(vcpu);
    put_root_ref(vcpu, old);
    Ok(())
}

/// Sets the root for guest user mode; 0: none.
///
/// # Errors
/// As [`new_root`].
pub fn new_user_root(vcpu: &mut Vcpu, number: u64) -> Result<(), ElementStop> {
    let new = (number != 0).then(|| Mfn::new(number));
    if new == vcpu.user_root {
        return Ok(());
    }
    if let Some(mfn) = new {
        get_root_ref(vcpu, mfn)?;
        // A root for both modes keeps what the kernel needs.
        if mfn != vcpu.kernel_root {
            platform::set_m2p_visible(mfn, false);
        }
    }
    if let Some(old) = core::mem::replace(&mut vcpu.user_root, new) {
        put_root_ref(vcpu, old);
    }
    Ok(())
}

/// Drops what a suspended call holds that is not made again.
pub fn drop_held_roots(caller: &mut Vcpu) {
    for root in core::mem::take(&mut caller.held_roots) {
        put_root_ref(caller, root);
    }
}
