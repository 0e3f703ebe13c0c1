//! `run`: from guests to a verdict. The tests and the benchmark go through [`start`] too.

use crate::cli::{Host, RunArgs};
use crate::exit::Exit;
use crate::guests::{self, Guest};
use crate::machine::{self, Ended, Machine, Watch};
use crate::verdict::{self, Verdict};
use crate::{accel, cargo, image, paths, ramdisk, say};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything about one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Pinfold or Xen.
    pub(crate) on: Host,
    /// The guests; exactly one on Xen.
    pub(crate) guests: Vec<Guest>,
    /// The machine.
    pub(crate) machine: Machine,
    /// The time limit.
    pub(crate) limit: Option<Duration>,
    /// The folder of the run's files, made with [`paths::run_dir`].
    pub(crate) dir: PathBuf,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// How QEMU ended.
    pub(crate) ended: Ended,
    /// The cleaned serial log.
    pub(crate) log: PathBuf,
}

/// Starts the machine and waits for its end; each line of the log goes to `watch`.
pub(crate) fn start(plan: &Plan, watch: impl FnMut(&str) -> Watch) -> Result<Done> {
    let log = plan.dir.join("serial.log");
    let qemu = match plan.on {
        Host::Pinfold => {
            let disk = plan.dir.join("disk.img");
            let exit = pinfold_image::Exit::DebugExit(ramdisk::EXIT_PORT);
            image::write(&disk, &plan.guests, plan.machine.screen, exit)?;
            machine::pinfold(&plan.machine, &disk, &plan.dir)?
        }
        Host::Xen => match plan.guests.as_slice() {
            [guest] => machine::xen(&plan.machine, guest)?,
            _ => bail!("Xen starts exactly one guest here: name one"),
        },
    };
    let ended = machine::run(qemu, &log, plan.limit, watch)?;
    Ok(Done { ended, log })
}

/// `run`: builds, starts, streams the log, judges.
pub(crate) fn verb(args: &RunArgs) -> Result<Exit> {
    let (accel, why) = accel::choose(args.accel, args.icount)?;
    let also: &[&str] = if args.on == Host::Pinfold { &[image::HYPERVISOR] } else { &[] };
    let guests = guests::resolve(&args.guest, also)?;
    let names: Vec<String> = guests.iter().map(|guest| guest.name.clone()).collect();
    let on = if args.on == Host::Pinfold { "pinfold" } else { "xen" };
    let dir = paths::run_dir(&format!("{}-{on}", names.join("+")))?;
    let machine = Machine {
        smp: args.smp,
        mem: args.mem,
        accel,
        icount: args.icount,
        gdb: args.gdb,
        screen: args.boot_log,
    };
    let limit = (!args.gdb).then(|| Duration::from_secs(args.timeout));
    let plan = Plan { on: args.on, guests, machine, limit, dir };
    say::note(format!("{} on {on}, accelerator {accel:?} ({why})", names.join(" and ")));
    if args.gdb {
        say::note(attach_line(&plan));
    }
    let verdict = match args.on {
        Host::Pinfold => on_pinfold(&plan, args)?,
        Host::Xen => on_xen(&plan)?,
    };
    let log = plan.dir.join("serial.log");
    if let Some(copy) = &args.log {
        std::fs::copy(&log, copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    say::note(format!("log: {}", paths::shown(&log)));
    let word = if verdict.is_ok() { "ok" } else { "FAILED" };
    say::note(format!("{word}: {}", verdict.why));
    Ok(verdict.exit)
}

fn on_pinfold(plan: &Plan, args: &RunArgs) -> Result<Verdict> {
    let mut facts = verdict::pinfold::Facts::default();
    let mut waiting = Some(say::Step::start("Waiting for the firmware (a few seconds)"));
    let done = start(plan, |line| {
        facts.line(line);
        // What the firmware draws before the first record is of no interest.
        if facts.alive || args.boot_log {
            waiting = None;
            println!("{line}");
        }
        Watch::On
    })?;
    drop(waiting);
    if !facts.alive {
        say::note("the hypervisor printed nothing; the end of what the firmware printed:");
        tail(&done.log, 12).iter().for_each(|line| eprintln!("    {line}"));
        if !args.boot_log {
            say::note("--boot-log shows what the bootloader did");
        }
    }
    Ok(verdict::pinfold::judge(&facts, &done.ended, args.deny_aliases))
}

fn on_xen(plan: &Plan) -> Result<Verdict> {
    let mut facts = verdict::xen::Facts::default();
    let done = start(plan, |line| {
        println!("{line}");
        facts.line(line)
    })?;
    Ok(verdict::xen::judge(&facts, &done.ended))
}

/// The line that attaches gdb with symbols.
fn attach_line(plan: &Plan) -> String {
    let symbols = match plan.on {
        Host::Pinfold => format!(
            "-ex 'add-symbol-file {} -o {:#x}'",
            cargo::built(image::HYPERVISOR).display(),
            image::HYPERVISOR_BASE
        ),
        Host::Xen => plan.guests[0].kernel.display().to_string(),
    };
    format!("waiting for gdb: gdb {symbols} -ex 'target remote 127.0.0.1:1234'")
}

/// The last lines of a log that are not empty.
pub(crate) fn tail(log: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(count);
    lines[first..].iter().map(|line| (*line).to_owned()).collect()
}

/// The first lines of a log in which a guest names what was wrong.
pub(crate) fn wrong(log: &Path, count: usize) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let wrong = |line: &&str| line.contains(" WRONG ") || line.contains(" wrong: ");
    text.lines().filter(wrong).take(count).map(str::to_owned).collect()
}
