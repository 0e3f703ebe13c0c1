//! Scenario 4: moving a buffer away under everybody who has it mapped.
//!
//! A buffer is mapped in several address spaces, in an area and in a slot. Its contents are to be
//! in other frames: nobody may touch it while they are copied, and nobody may go on with the old
//! frames afterwards, which become page tables at once.

mod broken;
mod buffer;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::Failed;
use pinfold_guest::vmap::Policy;

/// Runs a form while the shim keeps a reverse map.
fn with_map<T>(
    fixture: &Fixture<'_>,
    policy: Policy,
    form: impl FnOnce() -> Result<T, Failed>,
) -> Result<T, Failed> {
    fixture.set_policy(policy)?;
    fixture.once(|| Ok(fixture.mmu().enable_rmap()?))?;
    let result = form();
    fixture.mmu().disable_rmap();
    result
}
