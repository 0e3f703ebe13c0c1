//! Scenario 2: buffers that are swapped to shared memory.
//!
//! When memory is short, the pages of a buffer are copied to an object that can be paged out, and
//! copied back when the buffer is used, through the two atomic slots of the CPU that does it. The
//! slots keep their mappings, but the pages are freed at once.

mod broken;
mod context;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::failure::Failed;
use pinfold_guest::pageable::{InMemory, Pager};

/// Pages of the shared memory that have a frame.
const RESIDENT: usize = 24;
/// Pages that the store has room for.
const ROOM: usize = 500;

/// Opens the shared memory.
fn storage(fixture: &Fixture<'_>) -> Result<Pager<InMemory>, Failed> {
    // The kernel maps shared memory through the slots only.
    Ok(Pager::new(InMemory::new(ROOM), RESIDENT, fixture.region("swap", 64)?))
}
