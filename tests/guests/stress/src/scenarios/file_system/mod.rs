//! Scenario 1: lazy vmap under a file system.
//!
//! Buffers of several pages come and go; unmapping them is left for later, their pages are free at
//! once, and page tables are made of those.

mod broken;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::Failed;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::vmap::Region;

/// Where buffers are mapped.
fn region(fixture: &Fixture<'_>) -> Result<Region, Failed> {
    fixture.region("fs_buf", 2048)
}

/// Pages of a block of the disk.
fn pages_of(block: u64) -> u64 {
    [1, 2, 3, 4, 8][block as usize % 5]
}

/// The words of a page that are looked at: one at each end, and some in between that differ from
/// page to page.
fn words_of(page: Vaddr, number: u64) -> [Vaddr; 4] {
    [0, 7 + number % 100, 200 + number % 100, 511].map(|word| Vaddr(page.0 + word * 8))
}
