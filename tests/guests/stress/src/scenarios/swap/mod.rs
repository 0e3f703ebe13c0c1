//! Scenario 2: buffers that are swapped through shared memory.
//!
//! When memory is short, the pages of a buffer are copied to an object that can be paged out, and
//! back when it is used, each through the two atomic slots of the CPU that does it. The slots keep
//! their mappings, and the pages are free at once.

mod broken;
mod fixed;
mod hands;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::Failed;
use pinfold_guest::pageable::{InMemory, Pager};

/// Pages of the shared memory that are not paged out.
const RESIDENT: usize = 24;
/// Pages that can be.
const ROOM: usize = 500;

/// Where buffers are copied to.
fn storage(fixture: &Fixture<'_>) -> Result<Pager<InMemory>, Failed> {
    // Nothing maps shared memory for the kernel here but the slots.
    Ok(Pager::new(InMemory::new(ROOM), RESIDENT, fixture.region("swap", 64)?))
}
