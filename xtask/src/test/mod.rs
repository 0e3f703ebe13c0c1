//! `test`: the host tests, then whole machines.
//!
//! | file | about |
//! |---|---|
//! | `floors` | the directions of imports, see [`crate::floors`] |
//! | `host` | `cargo test`, counted |
//! | `page` | the report's page in a browser |
//! | `cases` | the whole-machine cases: guests, and how each must end |
//! | `corrupt_image` | guest images that must be refused, made from a good one |
//! | `case` | running one case and holding its log against what was expected |
//!
//! A case that cannot run here (no Xen or no Linux to be had) is skipped aloud. At most one QEMU a processor.

mod case;
mod cases;
mod corrupt_image;
mod floors;
mod host;
mod page;

use crate::accel::{self, Accel};
use crate::cli::{AccelChoice, Host, TestArgs};
use crate::exit::Exit;
use crate::{cargo, fetch, image, linux, paths, progress, run};
use anyhow::Result;
use case::Case;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// The name of the host tests for the filter.
const HOST: &str = "host";
/// The name of all the others.
const MACHINE: &str = "machine";

/// Where lines of a failed test's log are cut; the file has them whole.
const WIDTH: usize = 200;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// `test`.
pub(crate) fn verb(args: &TestArgs) -> Result<Exit> {
    let filter = args.filter.as_deref();
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let mut cases = cases::all();
    if filter != Some(MACHINE) {
        cases.retain(|case| wanted(&case.name));
    }
    if args.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(Exit::Ok);
    }
    let mut tally = Tally::default();
    if wanted(floors::NAME) {
        floors::run(&mut tally)?;
    }
    if wanted(HOST) {
        host::run(&mut tally)?;
    }
    if wanted(page::NAME) {
        page::run(&mut tally)?;
    }
    if !cases.is_empty() {
        machines(cases, &mut tally)?;
    }
    let Tally { passed, failed, skipped } = tally;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if passed + failed == 0 {
        anyhow::bail!("no test has `{}` in its name", args.filter.as_deref().unwrap_or_default());
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::TestsFailed })
}

/// Builds what the cases need, then runs them, one QEMU a processor.
fn machines(cases: Vec<Case>, tally: &mut Tally) -> Result<()> {
    let mut packages: BTreeSet<&str> = cases.iter().flat_map(Case::packages).collect();
    let on_pinfold = cases.iter().any(|case| case.on == Host::Pinfold);
    if on_pinfold {
        packages.insert(image::HYPERVISOR);
    }
    if !packages.is_empty() {
        cargo::build(&packages.into_iter().collect::<Vec<_>>())?;
    }
    fetch::qemu::ensure()?;
    if on_pinfold {
        fetch::firmware::ensure()?;
        fetch::bootloader::ensure()?;
    }
    let mut queue: VecDeque<Case> = cases.into();
    let mut without = |what: &str, needs: fn(&Case) -> bool, have: &dyn Fn() -> Result<()>| {
        if queue.iter().any(needs)
            && let Err(error) = have()
        {
            progress::note(format!("{what} cannot be had here: {error:#}"));
            for case in queue.iter().filter(|case| needs(case)) {
                println!("skip  {}: no {what} on this machine", case.name);
                tally.skipped += 1;
            }
            queue.retain(|case| !needs(case));
        }
    };
    without("Xen", Case::needs_xen, &|| fetch::xen::ensure().map(drop));
    without("GRUB", Case::needs_grub, &|| fetch::grub::ensure().map(drop));
    // Its packages may be missing; that our own program for it does not build is a failure.
    without("Linux", Case::needs_linux, &fetch::linux::ensure);
    if queue.iter().any(Case::needs_linux) {
        linux::initramfs()?;
    }
    let (accel, why) = accel::choose(AccelChoice::Auto, false)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(queue.len());
    progress::note(format!(
        "{} machines, {workers} at a time, accelerator {accel:?} ({why})",
        queue.len()
    ));
    run_all(queue, workers, accel, tally);
    Ok(())
}

fn run_all(queue: VecDeque<Case>, workers: usize, accel: Accel, tally: &mut Tally) {
    let queue = Mutex::new(queue);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(case) = next else { break };
                    let started = Instant::now();
                    let result = paths::run_dir(&format!("test-{}", case.name))
                        .map_err(|error| format!("{error:#}"))
                        .and_then(|dir| {
                            let result = case.run(accel, &dir);
                            if result.is_ok() {
                                // Only failures are worth the space.
                                let _ = std::fs::remove_dir_all(&dir);
                            }
                            result
                        });
                    if sender.send((case.name, started.elapsed(), result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (name, took, result) in receiver {
            tell(&name, took, &result);
            match result {
                Ok(()) => tally.passed += 1,
                Err(_) => tally.failed += 1,
            }
        }
    });
}

fn tell(name: &str, took: Duration, result: &Result<(), String>) {
    let took = took.as_secs_f64();
    match result {
        Ok(()) => println!("ok    {name} ({took:.1} s)"),
        Err(why) => {
            println!("FAIL  {name} ({took:.1} s): {why}");
            let log = paths::target().join("runs").join(format!("test-{name}")).join("serial.log");
            let show = |line: &String| {
                println!("      {}", line.chars().take(WIDTH).collect::<String>());
            };
            run::wrong(&log, 20).iter().for_each(show);
            println!("      the end of {}:", paths::shown(&log));
            run::tail(&log, 15).iter().for_each(show);
        }
    }
}
