//! The directions of imports, as a test.

use super::Tally;
use crate::floors;
use anyhow::Result;

/// Its name for the filter.
pub(super) const NAME: &str = "floors";

/// Checks that no import runs upward and that no circle of files is too large.
pub(super) fn run(tally: &mut Tally) -> Result<()> {
    let errors = floors::errors()?;
    if errors.is_empty() {
        tally.passed += 1;
        println!("ok    {NAME}");
    } else {
        tally.failed += 1;
        println!("FAIL  {NAME}: {} imports or circles that are not allowed", errors.len());
        errors.iter().flat_map(|error| error.lines()).for_each(|line| println!("      {line}"));
    }
    Ok(())
}
