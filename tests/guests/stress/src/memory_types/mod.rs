//! Phase m: memory types. What the hypervisor permits and what not, with `cache=report` for a
//! domain that is told of mixing only; the change that forgets a lazy mapping, and the shim's.

mod cycles;
mod rules;

use crate::Failed;
use crate::hostile;
use crate::scenarios::{self, Fixture};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, Native};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;

/// Whether mixing memory types is borne, and only told of: as the manifest has it, which the guest
/// can't see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Strict,
    Report,
}

/// All of it; with `form=fixed` only what must not cause a record, on all vCPUs.
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
