//! The roots of a vCPU's address spaces: references on them, and loading another.

use super::context;
use super::element_stop::ElementStop;
use super::hooks::pinfold_report_refusal;
use super::vcpu::Vcpu;
use crate::memory::frame_refs::RootRef;
use crate::memory::platform;
use crate::memory::tlb;
use pinfold_abi::errno::Errno;
use pinfold_validator::{Error, Mfn};

/// Takes a reference on a root, for a vCPU that is to load it.
///
/// # Errors
/// If it is no root of the guest's; [`ElementStop::Preempted`]: nothing changed, and the frames hold
/// what was validated so far.
pub fn get_root(vcpu: &Vcpu, mfn: Mfn) -> Result<RootRef, ElementStop> {
    let taken = vcpu.work.attempt(|budget| RootRef::get(vcpu.domain.id, mfn, budget));
    taken.map_err(|stop| {
        if let Error::Refused(refusal) = &stop {
            pinfold_report_refusal(vcpu, refusal);
        }
        ElementStop::from(stop)
    })
}

/// Releases a root that isn't loaded any more. The work counts as the vCPU's; what one attempt leaves
/// of the devalidation is done by the domain's next operation.
pub fn put_root(vcpu: &Vcpu, root: RootRef) {
    vcpu.work.attempt(|budget| root.put(budget));
}

/// Loads a kernel root, as `mov cr3` does.
///
/// # Errors
/// As [`get_root`].
pub fn new_root(vcpu: &mut Vcpu, mfn: Mfn) -> Result<(), ElementStop> {
    if mfn == vcpu.kernel_root.frame() {
        tlb::flush_local();
        return Ok(());
    }
    let root = get_root(vcpu, mfn)?;
    platform::set_m2p_visible(&root, true);
    let old = core::mem::replace(&mut vcpu.kernel_root, root);
    context::reload_root(vcpu);
    put_root(vcpu, old);
    Ok(())
}

/// Sets the root for guest user mode, by its frame's number; 0: none.
///
/// # Errors
/// As [`get_root`].
pub fn new_user_root(vcpu: &mut Vcpu, number: u64) -> Result<(), ElementStop> {
    if vcpu.container.is_some() {
        // One root serves both modes.
        return Err(Errno::ENOSYS.into());
    }
    let mfn = (number != 0).then(|| Mfn::new(number));
    if mfn == vcpu.user_root.as_ref().map(RootRef::frame) {
        return Ok(());
    }
    let new = mfn.map(|mfn| get_root(vcpu, mfn)).transpose()?;
    // A root for both modes keeps the M2P, which the kernel needs.
    if let Some(root) = new.as_ref().filter(|root| root.frame() != vcpu.kernel_root.frame()) {
        platform::set_m2p_visible(root, false);
    }
    if let Some(old) = core::mem::replace(&mut vcpu.user_root, new) {
        put_root(vcpu, old);
    }
    Ok(())
}

/// Releases the roots that a suspended `vcpu_op` initialise holds.
pub fn put_held_roots(caller: &mut Vcpu) {
    for root in core::mem::take(&mut caller.held_roots) {
        put_root(caller, root);
    }
}
