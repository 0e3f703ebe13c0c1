//! Phase m: memory types. What the hypervisor permits and what not, with `cache=report` for a
//! domain that is told of mixing only; the change that forgets a lazy mapping, and the shim's.

mod cycles;
mod rules;

use crate::Failed;
use crate::hostile;
use crate::random::Random;
use crate::stories::{self, Stage};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, Native};
use pinfold_guest::mmu::Mmu;

/// Whether mixing memory types is borne, and only told of: as the manifest has it, which the guest
/// can't see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Strict,
    Report,
}

/// All of it; with `form=cured` only what must not cause a record, on all vCPUs.
pub(crate) fn run<'a>(
    stage: &mut Option<Stage<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
    random: &mut Random,
) -> Result<(), Failed> {
    let report = boot.option("cache") == Some("report");
    let policy = if report { Policy::Report } else { Policy::Strict };
    let stage = stories::stage(stage, mmu, boot)?;
    if boot.option("form") != Some("cured") {
        hostile::on_bench(&mut stage.mmu(), boot, "MEMORY rules", |mmu, lab, check| {
            rules::run(mmu, lab, check, policy);
        })?;
        cycles::naive(&mut stage.mmu(), random, stage.rounds().div_ceil(10), policy)?;
    }
    cycles::cured(stage)
}
