//! Phase m: memory types. Which combinations the hypervisor permits, a change of type that forgets
//! a lazy mapping, and the shim's change.

mod cycles;
mod rules;

use crate::failure::Failed;
use crate::hostile;
use crate::scenarios::{self, Fixture};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, Native};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;

/// What the manifest says of mixed memory types: refused, or only reported. The guest can't see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Strict,
    Report,
}

/// Runs all of it; with `form=fixed` only the part that causes no records, on all vCPUs.
pub(crate) fn run<'a>(
    fixture: &mut Option<Fixture<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
    random: &mut Random,
) -> Result<(), Failed> {
    let report = boot.option("cache") == Some("report");
    let policy = if report { Policy::Report } else { Policy::Strict };
    let fixture = scenarios::fixture(fixture, mmu, boot)?;
    if boot.option("form") != Some("fixed") {
        hostile::with_table_fixture(
            &mut fixture.mmu(),
            boot,
            "MEMORY rules",
            |mmu, fixture, check| {
                rules::run(mmu, fixture, check, policy);
            },
        )?;
        cycles::broken(&mut fixture.mmu(), random, fixture.rounds().div_ceil(10), policy)?;
    }
    cycles::fixed(fixture)
}
