//! Scenario 5: objects that are paged out while a lazy mapping of them exists.

mod broken;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use crate::failure::Failed;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::vmap::Region;

/// Opens the region in which objects are mapped.
fn region(fixture: &Fixture<'_>) -> Result<Region, Failed> {
    fixture.region("pageable", 1024)
}

/// Returns the words of a page that are checked.
fn words_of(page: Vaddr, number: u64) -> [Vaddr; 3] {
    [0, 5 + number * 37 % 500, 511].map(|word| Vaddr(page.0 + word * 8))
}
