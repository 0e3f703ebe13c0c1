//! The end of a domain's memory: every reference dropped, every frame free again, and proof of it.

use super::{frames, platform, validator};
use crate::arch::ipi;
use crate::console::log::record;
use crate::domain::vcpu::Vcpu;
use crate::domain::{self, Domain};
use crate::grant;
use crate::hypercall::descriptors;
use crate::time::timers;
use alloc::boxed::Box;
use pinfold_validator::{Budget, Mfn, Stop, Teardown};

/// Table entries between two looks at what other processors want.
const STEP: u32 = 65_536;
/// The same for frames that are freed.
const FRAMES_BETWEEN_LOOKS: u64 = 64;

/// Repeats a step until it isn't preempted any more.
fn to_the_end(mut step: impl FnMut(&mut Budget) -> Result<(), Stop>) {
    loop {
        match step(&mut Budget::new(STEP)) {
            Ok(()) => return,
            Err(Stop::Preempted) => ipi::attend(),
            Err(Stop::Refused(refusal)) => {
                // Teardown drops only what is held; anything else is a bug of ours, and the audit
                // below names the frame.
                log::error!("teardown: {refusal}");
                return;
            }
        }
    }
}

/// Drops a vCPU that runs no more and isn't loaded, and all that it holds.
pub fn drop_vcpu(mut vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    let (id, validator) = (domain.id, validator());
    let seat = vcpu.seat();
    seat.leave();
    timers::disarm_all(&domain, seat.id);
    descriptors::drop_all(&mut vcpu);
    let roots = [Some(vcpu.kernel_root), vcpu.user_root];
    for root in roots.into_iter().flatten() {
        to_the_end(|budget| validator.drop_root(id, root, budget));
    }
    // The audit must not look at it any more.
    vcpu.seat().set_state(None);
}

/// Frees everything of a domain that has no vCPU any more.
pub fn release_all(domain: &Domain) {
    let (id, validator) = (domain.id, validator());
    domain.console.lock().close();
    domain.store.close(id);
    for seat in &domain.seats {
        if let Some(frame) = seat.forget_info(domain.shared_page.0) {
            validator.drop_writable(id, frame);
        }
    }
    let mut progress = Teardown::new();
    to_the_end(|budget| validator.relinquish(id, &mut progress, budget));
    grant::end(domain);
    let mut kept = 0u64;
    let mut freed = 0u64;
    let mut stuck = 0u64;
    let mut next = Mfn::new(0);
    while let Some(mfn) = validator.next_owned(id, next) {
        next = Mfn::new(mfn.get() + 1);
        if next.get().is_multiple_of(FRAMES_BETWEEN_LOOKS) {
            ipi::attend();
        }
        match frames::reclaim(mfn, id) {
            Ok(()) => freed += 1,
            // Another domain has it mapped, and frees it (see `grant`), or did so just now.
            Err(_)
                if validator.owner(mfn) != Some(id)
                    || validator.info(mfn).is_some_and(|info| info.is_lent()) =>
            {
                kept += 1;
            }
            Err(refusal) => {
                stuck += 1;
                log::error!("teardown: {refusal}");
            }
        }
    }
    platform::set_window(id, None);
    domain::unlist(id);
    domain.window.free();
    record!(
        domain.who(),
        AUDIT,
        "teardown freed={freed} kept={kept} stuck={stuck} free_frames={}",
        frames::free_count()
    );
}
