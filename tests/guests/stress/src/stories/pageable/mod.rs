//! Story 5: objects that are paged out while a lazy mapping of them is left.

mod cured;
mod naive;

pub(super) use cured::run as cured;
pub(super) use naive::run as naive;

use super::Stage;
use crate::Failed;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::vmap::Region;

/// Where objects are mapped.
fn region(stage: &Stage<'_>) -> Result<Region, Failed> {
    stage.region("pageable", 1024)
}

/// The words of a page that are looked at.
fn words_of(page: Vaddr, number: u64) -> [Vaddr; 3] {
    [0, 5 + number * 37 % 500, 511].map(|word| Vaddr(page.0 + word * 8))
}
