//! Story 4: moving a buffer away under everybody who has it mapped.
//!
//! A buffer is mapped in several address spaces, in an area and in a slot. Its contents are to be
//! in other frames: nobody may touch it while they are copied, and nobody may go on with the old
//! frames afterwards, which become page tables at once.

mod buffer;
mod cured;
mod naive;

pub(super) use cured::run as cured;
pub(super) use naive::run as naive;

use super::Stage;
use crate::Failed;
use pinfold_guest::vmap::Policy;

/// Runs a form while the shim keeps a reverse map.
fn with_map<T>(
    stage: &Stage<'_>,
    policy: Policy,
    form: impl FnOnce() -> Result<T, Failed>,
) -> Result<T, Failed> {
    stage.set_policy(policy)?;
    stage.once(|| Ok(stage.mmu().enable_rmap()?))?;
    let result = form();
    stage.mmu().disable_rmap();
    result
}
