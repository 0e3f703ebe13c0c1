//! The directions of imports, as a test.

use super::list::{Part, Test, When};
use crate::floors;
use libtest_mimic::{Completion, Failed};

/// The test.
pub(super) fn test() -> Test {
    Test {
        part: Part::Floors,
        name: "floors".into(),
        about: "no import runs upward, and no large circle of files import each other".into(),
        when: When::Always,
        run: Box::new(check),
    }
}

fn check() -> Result<Completion, Failed> {
    let errors = floors::errors().map_err(|error| format!("{error:#}"))?;
    if errors.is_empty() { Ok(Completion::Completed) } else { Err(errors.join("\n").into()) }
}
