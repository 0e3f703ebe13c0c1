//! The stories: subsystems that historically left mappings behind.
//!
//! | phase | module | what it is |
//! |---|---|---|
//! | 1 | [`file_system`] | a buffer cache that unmaps lazily, and frees its pages at once |
//! | 2 | [`swap`] | buffers copied out and back through atomic slots that keep their mappings |
//! | 3 | [`dma`] | devices that write to pages whose owners have let them go |
//! | 4 | [`reverse`] | moving a buffer away under everybody who has it mapped |
//! | 5 | [`pageable`] | objects that are paged out while a lazy mapping of them is left |
//!
//! Each has two forms. The *naive* one leaves mappings behind as a kernel did once; it knows how
//! many and where, and holds that against what the hypervisor refuses and names. The *cured* one
//! does the same work through the shim, and nothing may be refused, nothing lost. Both run on all
//! vCPUs that there are: the [`Mmu`] is behind a lock, contents are read and written outside of it.

mod dma;
mod file_system;
mod pageable;
mod plants;
mod reverse;
mod stage;
mod swap;
mod tables;

pub(crate) use plants::{Plants, Tally};
pub(crate) use stage::Stage;

use crate::{Failed, hostile};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::{Boot, Native, time};
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;

/// A story's two forms.
struct Story {
    naive: fn(&Stage<'_>) -> Result<Tally, Failed>,
    cured: fn(&Stage<'_>) -> Result<(), Failed>,
}

fn story(phase: char) -> Option<Story> {
    Some(match phase {
        '1' => Story { naive: file_system::naive, cured: file_system::cured },
        '2' => Story { naive: swap::naive, cured: swap::cured },
        '3' => Story { naive: dma::naive, cured: dma::cured },
        '4' => Story { naive: reverse::naive, cured: reverse::cured },
        '5' => Story { naive: pageable::naive, cured: pageable::cured },
        _ => return None,
    })
}

/// What to run on; the first time, the vCPUs are started.
pub(crate) fn stage<'s, 'a>(
    stage: &'s mut Option<Stage<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
) -> Result<&'s mut Stage<'a>, Failed> {
    Ok(match stage {
        Some(stage) => stage,
        None => stage.insert(Stage::open(mmu, boot)?),
    })
}

/// One story, in the forms asked for. The first one starts the vCPUs.
pub(crate) fn run<'a>(
    stage: &mut Option<Stage<'a>>,
    mmu: &'a Mutex<Mmu<Native>>,
    boot: &Boot,
    phase: char,
) -> Result<(), Failed> {
    let Some(story) = story(phase) else {
        println!("stress: there is no story {phase} yet");
        return Err(Failed);
    };
    let stage = self::stage(stage, mmu, boot)?;
    stage.set_story(phase);
    let form = boot.option("form").unwrap_or("both");
    if !["naive", "cured", "both"].contains(&form) {
        println!("stress: there is no form {form}");
        return Err(Failed);
    }
    if form != "cured" {
        clean(stage, "naive", || naive(stage, &story))?;
    }
    if form != "naive" {
        clean(stage, "cured", || cured(stage, &story))?;
    }
    Ok(())
}

/// Runs a form; afterwards nothing may be left of it, and the hypervisor's records must be right.
fn clean(
    stage: &Stage<'_>,
    form: &str,
    run: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    stage.mmu().set_table_pool(0);
    let free = stage.mmu().free_frames();
    let began = time::tsc();
    run()?;
    let ticks = time::tsc() - began;
    println!("STORY-TICKS {} form={form} vcpus={} ticks={ticks}", stage.story(), stage.count());
    let mut mmu = stage.mmu();
    mmu.set_table_pool(0);
    if mmu.purge_vmap().and_then(|_| mmu.purge_kmap()).is_err() {
        println!("story {}: dead mappings could not be cleared", stage.story());
        return Err(Failed);
    }
    let now = mmu.free_frames();
    drop(mmu);
    if now != free {
        println!("story {}: {free} frames were free, now {now}", stage.story());
        return Err(Failed);
    }
    hostile::audit().map(drop)
}

fn naive(stage: &Stage<'_>, story: &Story) -> Result<(), Failed> {
    let before = stage.mmu().stats();
    let Tally { planted, refused, named } = (story.naive)(stage)?;
    let done = stage.mmu().stats() - before;
    println!(
        "STORY {} form=naive planted={planted} refused={refused} named={named}",
        stage.story()
    );
    let all_named = named == planted || stage.on_xen();
    if planted == 0 || refused != planted || done.refused != refused || !all_named {
        println!("story {}: the hypervisor refused {} pins", stage.story(), done.refused);
        return Err(Failed);
    }
    Ok(())
}

fn cured(stage: &Stage<'_>, story: &Story) -> Result<(), Failed> {
    let before = stage.mmu().stats();
    let result = (story.cured)(stage);
    let done = stage.mmu().stats() - before;
    println!(
        "STORY {} form=cured rounds={} refused={} cleared={} flushes={} pins={} pins_after_clear={}",
        stage.story(),
        stage.rounds(),
        done.refused,
        done.cleared,
        done.flushes,
        done.pins,
        done.pins_after_clear,
    );
    result?;
    if done.refused != 0 {
        println!("story {}: {} pins were refused", stage.story(), done.refused);
        return Err(Failed);
    }
    Ok(())
}
