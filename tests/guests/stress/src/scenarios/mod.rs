//! The scenarios: subsystems of real kernels that left stray mappings behind.
//!
//! | phase | module | what it is |
//! |---|---|---|
//! | 1 | [`file_system`] | a buffer cache that unmaps lazily, and frees its pages at once |
//! | 2 | [`swap`] | buffers copied out and back through atomic slots that keep their mappings |
//! | 3 | [`dma`] | devices that still write to pages that were freed |
//! | 4 | [`migrate`] | moving a buffer to other frames while it is mapped and in use |
//! | 5 | [`pageable`] | objects that are paged out while a lazy mapping of them exists |
//!
//! Each has two forms. The *broken* one leaves mappings behind as those kernels did. It knows how
//! many and where, and compares that with what the hypervisor refuses and names. The *fixed* one
//! does the same work through the shim: no pin may be refused and no content lost. Both run on all
//! vCPUs. The [`Mmu`] is behind a lock; contents are read and written without it.

mod dma;
mod file_system;
mod fixture;
mod migrate;
mod pageable;
mod seeded;
mod swap;
mod tables;

pub(crate) use fixture::Fixture;
pub(crate) use seeded::{SeededAliases, Tally};

use crate::failure::Failed;
use crate::hostile;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, Native, time};
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;

/// The two forms of a scenario.
struct Scenario {
    broken: fn(&Fixture<'_>) -> Result<Tally, Failed>,
    fixed: fn(&Fixture<'_>) -> Result<(), Failed>,
}

fn scenario(phase: char) -> Option<Scenario> {
    Some(match phase {
        '1' => Scenario { broken: file_system::broken, fixed: file_system::fixed },
        '2' => Scenario { broken: swap::broken, fixed: swap::fixed },
        '3' => Scenario { broken: dma::broken, fixed: dma::fixed },
        '4' => Scenario { broken: migrate::broken, fixed: migrate::fixed },
        '5' => Scenario { broken: pageable::broken, fixed: pageable::fixed },
        _ => return None,
    })
}

/// Returns the fixture. The first call starts the vCPUs.
pub(crate) fn fixture<'s, 'a>(
    fixture: &'s mut Option<Fixture<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
) -> Result<&'s mut Fixture<'a>, Failed> {
    Ok(match fixture {
        Some(fixture) => fixture,
        None => fixture.insert(Fixture::open(mmu, boot)?),
    })
}

/// Runs a scenario, in the forms that the command line asks for.
pub(crate) fn run<'a>(
    fixture: &mut Option<Fixture<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
    phase: char,
) -> Result<(), Failed> {
    let Some(scenario) = scenario(phase) else {
        println!("stress: there is no scenario {phase}");
        return Err(Failed);
    };
    let fixture = self::fixture(fixture, mmu, boot)?;
    fixture.set_scenario(phase);
    let form = boot.option("form").unwrap_or("both");
    if !["broken", "fixed", "both"].contains(&form) {
        println!("stress: there is no form {form}");
        return Err(Failed);
    }
    if form != "fixed" {
        clean(fixture, "broken", || broken(fixture, &scenario))?;
    }
    if form != "broken" {
        clean(fixture, "fixed", || fixed(fixture, &scenario))?;
    }
    Ok(())
}

/// Runs a form, and checks that it leaves nothing behind and that the hypervisor's audit is right.
fn clean(
    fixture: &Fixture<'_>,
    form: &str,
    run: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    fixture.mmu().set_table_pool(0);
    let free = fixture.mmu().free_frames();
    let began = time::tsc();
    run()?;
    let ticks = time::tsc() - began;
    println!(
        "SCENARIO-TICKS {} form={form} vcpus={} ticks={ticks}",
        fixture.scenario(),
        fixture.count()
    );
    let mut mmu = fixture.mmu();
    mmu.set_table_pool(0);
    if mmu.purge_vmap().and_then(|_| mmu.purge_kmap()).is_err() {
        println!("scenario {}: dead mappings could not be cleared", fixture.scenario());
        return Err(Failed);
    }
    let now = mmu.free_frames();
    drop(mmu);
    if now != free {
        println!("scenario {}: {free} frames were free, now {now}", fixture.scenario());
        return Err(Failed);
    }
    hostile::audit().map(drop)
}

fn broken(fixture: &Fixture<'_>, scenario: &Scenario) -> Result<(), Failed> {
    let before = fixture.mmu().stats();
    let Tally { seeded, refused, named } = (scenario.broken)(fixture)?;
    let done = fixture.mmu().stats() - before;
    println!(
        "SCENARIO {} form=broken seeded={seeded} refused={refused} named={named}",
        fixture.scenario()
    );
    let all_named = named == seeded || fixture.on_xen();
    if seeded == 0 || refused != seeded || done.refused != refused || !all_named {
        println!("scenario {}: the hypervisor refused {} pins", fixture.scenario(), done.refused);
        return Err(Failed);
    }
    Ok(())
}

fn fixed(fixture: &Fixture<'_>, scenario: &Scenario) -> Result<(), Failed> {
    let before = fixture.mmu().stats();
    let result = (scenario.fixed)(fixture);
    let done = fixture.mmu().stats() - before;
    println!(
        "SCENARIO {} form=fixed rounds={} refused={} cleared={} flushes={} pins={} pins_after_clear={}",
        fixture.scenario(),
        fixture.rounds(),
        done.refused,
        done.cleared,
        done.flushes,
        done.pins,
        done.pins_after_clear,
    );
    result?;
    if done.refused != 0 {
        println!("scenario {}: {} pins were refused", fixture.scenario(), done.refused);
        return Err(Failed);
    }
    Ok(())
}
