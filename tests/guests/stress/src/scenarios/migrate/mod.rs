//! Scenario 4: moving a buffer to other frames while it is mapped and in use.
//!
//! A buffer is mapped in several address spaces, in an area and in a slot. While its contents are
//! copied, nobody may write to it; afterwards nobody may use the old frames, which become page
//! tables at once.

mod broken;
mod buffer;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::failure::Failed;
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
