//! `test`: everything that is tested, as one list of named tests.
//!
//! | file | about |
//! |---|---|
//! | `list` | a test: its part, name and description, and which ones the command line selects |
//! | `floors` | the directions of imports, see [`crate::floors`] |
//! | `cargo_tests` | tests that cargo runs: host and doc tests, loom models, Miri |
//! | `page` | the report's page in a browser |
//! | `machine` | whole machines: building what they need, running them, showing what went wrong |
//! | `cases` | the whole-machine cases: guests, and how each must end |
//! | `case`, `spec` | one case and its guests, and running it |
//! | `expect` | what the log of a case is checked for |
//! | `corrupt_image` | guest images that must be refused, made from a good one |
//!
//! `libtest-mimic` runs the list, so that filters, formats and the summary are those of `cargo test`.
//! A test that cannot run on this machine (no Xen, no Miri) is reported as ignored, with the reason.

mod cargo_tests;
mod case;
mod cases;
mod corrupt_image;
mod expect;
mod floors;
mod list;
mod machine;
mod page;
mod spec;

use crate::cli::TestArgs;
use crate::exit::Exit;
use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Conclusion, FormatSetting};
use list::Test;
use std::sync::Arc;

/// `test`.
pub(crate) fn verb(args: &TestArgs) -> Result<Exit> {
    let (part, arguments) = list::arguments(args);
    let counts = Arc::new(cargo_tests::Counts::default());
    let setup = Arc::new(machine::Setup::default());
    let cases = cases::all();
    let mut tests = vec![floors::test()];
    tests.extend(cargo_tests::tests(&counts));
    tests.extend(page::tests());
    tests.extend(machine::tests(&cases, &setup));
    if let Some(part) = part {
        tests.retain(|test| test.part == part);
    }
    if args.list && arguments.format != Some(FormatSetting::Terse) {
        list::show(tests.iter().filter(|test| test.is_selected(&arguments)));
        return Ok(Exit::Ok);
    }
    if !args.list {
        if !tests.iter().any(|test| test.is_selected(&arguments)) {
            bail!("no test has `{}` in its name", args.filter.as_deref().unwrap_or_default());
        }
        machine::prepare(&setup, &cases, &tests, &arguments)?;
    }
    let trials = tests.into_iter().map(Test::into_trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if args.list {
        return Ok(Exit::Ok);
    }
    summarise(&conclusion, &counts, &arguments);
    Ok(if conclusion.has_failed() { Exit::TestsFailed } else { Exit::Ok })
}

/// Prints the last line, in which each test that cargo ran counts by itself.
fn summarise(conclusion: &Conclusion, counts: &cargo_tests::Counts, arguments: &Arguments) {
    let [passed, failed, skipped] = counts.added_to(conclusion);
    let line = format!("{passed} passed, {failed} failed, {skipped} skipped");
    // What reads JSON expects nothing else.
    match arguments.format {
        Some(FormatSetting::Json) => eprintln!("{line}"),
        _ => println!("{line}"),
    }
}
