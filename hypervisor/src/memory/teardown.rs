//! The end of a domain's memory: every reference dropped, every frame free again, and proof of it.

use super::{frames, platform, validator};
use crate::arch::ipi;
use crate::console::log::record;
use crate::domain::vcpu::Vcpu;
use crate::domain::{self, Domain};
use crate::grant::Listed;
use crate::hypercall::descriptors;
use crate::time::timers;
use alloc::boxed::Box;
use pinfold_core::teardown::{DomainTeardown, Step, Summary};
use pinfold_validator::{Budget, Stop};

/// Table entries between two looks at what other processors want.
const STEP: u32 = 65_536;

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
    let mut teardown = DomainTeardown::new(id);
    let Summary { freed, kept, stuck } = loop {
        let step =
            teardown.step(frames::allocator(), &domain.grants, &Listed, STEP, &mut |refusal| {
                log::error!("teardown: {refusal}");
            });
        match step {
            Step::More => ipi::attend(),
            Step::Done(summary) => break summary,
        }
    };
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
