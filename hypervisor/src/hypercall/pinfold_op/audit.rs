//! An audit on a guest's request.

use crate::arch::ipi;
use crate::diagnostics::audit;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::GuestPtr;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{NO_MEMORY, NOT_PERMITTED};
use pinfold_abi::pinfold::{Audit, VERSION};

/// Recounts the references of all frames of the machine.
pub(super) fn run(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    if !vcpu.domain.rights.diagnose {
        return Err(NOT_PERMITTED.into());
    }
    let summary = ipi::stop_machine(|| audit::run(Some(vcpu))).ok_or(NO_MEMORY)?;
    GuestPtr::new(argument).write(&Audit {
        version: VERSION,
        pad: 0,
        frames: summary.frames,
        tables: summary.tables,
        wrong: summary.wrong,
    })
}
