//! Scenario 1: lazy vmap under a file system.
//!
//! Buffers of several pages are mapped and unmapped. Their mappings are cleared late, but their
//! pages are freed at once, and become page tables.

mod broken;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::failure::Failed;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::vmap::Region;

/// Opens the region in which buffers are mapped.
fn region(fixture: &Fixture<'_>) -> Result<Region, Failed> {
    fixture.region("fs_buf", 2048)
}

/// Returns the size of a block of the disk in pages.
fn pages_of(block: u64) -> u64 {
    [1, 2, 3, 4, 8][block as usize % 5]
}

/// Returns the words of a page that are checked: one at each end, and two whose place depends on
/// the page's number.
fn words_of(page: Vaddr, number: u64) -> [Vaddr; 4] {
    [0, 7 + number % 100, 200 + number % 100, 511].map(|word| Vaddr(page.0 + word * 8))
}
