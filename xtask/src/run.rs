//! `run`: from guests to a verdict. The tests and the benchmark go through [`start`] too.

use crate::accel::{self, Accel};
use crate::cli::{ContainerArg, Host, RunArgs};
use crate::exit::Exit;
use crate::fetch::grub;
use crate::guests::{self, Guest};
use crate::machine::{self, Ended, Input, Machine, Start, Watch, keyboard};
use crate::verdict::{self, Verdict};
use crate::{cargo, image, linux, nested_kvm, paths, progress, ramdisk, report};
use anyhow::{Context, Result, bail};
use pinfold_image::Isolation;
use pinfold_image::manifest::LogLevel;
use pinfold_image::size::Size;
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
    /// How much Pinfold logs of what it does itself.
    pub(crate) log: LogLevel,
    /// Whether Pinfold watches some of the frames that guests give back.
    pub(crate) canaries: bool,
    /// Whether Pinfold's guests run on page tables without the hypervisor's memory.
    pub(crate) isolation: Isolation,
    /// The time limit.
    pub(crate) limit: Option<Duration>,
    /// What the machine's serial line gets.
    pub(crate) input: Input,
    /// The folder of the run's files, made with [`paths::run_dir`].
    pub(crate) dir: PathBuf,
}

/// Time limit in seconds unless it is said.
const LIMIT: u64 = 300;
/// Memory of the machine unless it is said or the guests need more.
const MEMORY: Size = Size(512 << 20);
/// What a machine has beside its guests' memory: the firmware's, the hypervisor's, and the boot
/// archive with the guests' files, which is 50 MB with Linux in it.
const BESIDE_GUESTS: u64 = 384 << 20;

/// Processors for these guests: all that the one with the most can use at once.
pub(crate) fn processors_for(guests: &[Guest]) -> u16 {
    let most = guests.iter().map(|guest| guest.vcpus).max().unwrap_or(1);
    u16::try_from(most).unwrap_or(u16::MAX).max(1)
}

/// Memory of a machine for these guests.
pub(crate) fn memory_for(guests: &[Guest]) -> Size {
    let guests = guests.iter().fold(0, |sum: u64, guest| sum.saturating_add(guest.memory.bytes()));
    // A guest with more memory than any machine is for the hypervisor to refuse, not for QEMU.
    let wanted = guests.saturating_add(BESIDE_GUESTS);
    if wanted > 16 << 30 { MEMORY } else { Size(wanted).max(MEMORY) }
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
            let settings = image::Settings {
                boot_log: plan.machine.screen,
                exit: pinfold_image::Exit::DebugExit(ramdisk::EXIT_PORT),
                log: plan.log,
                canaries: plan.canaries,
                isolation: plan.isolation,
            };
            match plan.machine.start() {
                Start::Firmware => {
                    let disk = plan.dir.join("disk.img");
                    image::write(&disk, &plan.guests, settings)?;
                    machine::pinfold(&plan.machine, &disk, &plan.dir)?
                }
                Start::Direct => {
                    let payload = plan.dir.join("payload");
                    image::write_payload(&payload, &plan.guests, settings)?;
                    machine::pinfold_direct(&plan.machine, &payload, &plan.dir)?
                }
            }
        }
        Host::Xen => match plan.guests.as_slice() {
            [guest] => machine::xen(&plan.machine, guest)?,
            _ => bail!("Xen starts exactly one guest here: name one"),
        },
    };
    let ended = machine::run(qemu, &log, plan.limit, plan.input, plan.machine.serial_rate, watch)?;
    let ended = match (plan.on, plan.machine.accel) {
        (Host::Pinfold, Accel::NestedKvm) => nested_kvm::inner_end(ended, &plan.dir),
        _ => ended,
    };
    Ok(Done { ended, log })
}

/// Starts the machine, waits for its end and judges the log; each line also goes to `seen`.
pub(crate) fn judged(plan: &Plan, mut seen: impl FnMut(&str)) -> Result<Verdict> {
    match plan.on {
        Host::Pinfold => {
            let mut facts = verdict::pinfold::Facts::default();
            let done = start(plan, |line| {
                facts.line(line);
                seen(line);
                Watch::On
            })?;
            Ok(verdict::pinfold::judge(&facts, &done.ended, false))
        }
        Host::Xen => {
            let mut facts = verdict::xen::Facts::default();
            let done = start(plan, |line| {
                seen(line);
                facts.line(line)
            })?;
            Ok(verdict::xen::judge(&facts, &done.ended))
        }
    }
}

/// `run`: builds, starts, streams the log, judges.
pub(crate) fn verb(args: &RunArgs) -> Result<Exit> {
    if args.on == Host::Xen && args.report.is_some() {
        bail!("--report needs Pinfold's records; Xen's log has none");
    }
    if args.on == Host::Xen && args.guest.container.contains(&ContainerArg::Svm) {
        bail!("--container is Pinfold's; Xen runs a PV kernel in ring 3");
    }
    let (accel, why) = accel::choose(args.accel, args.icount)?;
    let start = if args.direct { Start::Direct } else { Start::Firmware };
    if accel == Accel::NestedKvm {
        if args.on == Host::Xen || args.gdb || args.boot_log {
            bail!("--accel nested-kvm is for Pinfold, without --gdb and --boot-log");
        }
        nested_kvm::prepare()?;
    }
    let also: &[&str] = match (args.on, start) {
        (Host::Pinfold, Start::Firmware) if accel != Accel::NestedKvm => &[image::HYPERVISOR],
        (Host::Pinfold, _) => &[image::HYPERVISOR, image::LOADER],
        (Host::Xen, _) => &[],
    };
    let mut guests = guests::resolve(&args.guest, also)?;
    // A report shows what the frames were at the end.
    guests.iter_mut().for_each(|guest| guest.dump_frames |= args.report.is_some());
    let names: Vec<String> = guests.iter().map(|guest| guest.name.clone()).collect();
    let on = if args.on == Host::Pinfold { "pinfold" } else { "xen" };
    let dir = paths::run_dir(&format!("{}-{on}", names.join("+")))?;
    let machine = Machine {
        smp: args.smp.unwrap_or_else(|| processors_for(&guests)),
        mem: args.mem.unwrap_or_else(|| memory_for(&guests)),
        accel,
        icount: args.icount,
        gdb: args.gdb,
        screen: args.boot_log,
        cpu: args.cpu.clone(),
        start,
        serial_rate: args.serial_rate,
        virtio_console: accel != Accel::Tcg && args.serial_rate.is_none(),
    };
    let has_prompt = |guest: &String| guest == linux::NAME || guest == grub::NAME;
    let shell = keyboard::is_here() && args.guest.guests.iter().any(has_prompt);
    let limit = match args.timeout {
        None if args.gdb || shell => None,
        given => Some(Duration::from_secs(given.unwrap_or(LIMIT))),
    };
    let log = args.log_level;
    let plan = Plan {
        on: args.on,
        guests,
        machine,
        log,
        canaries: args.canaries,
        isolation: args.isolate_page_tables.into(),
        limit,
        input: Input::Stdin,
        dir,
    };
    progress::note(format!("{} on {on}, accelerator {accel:?} ({why})", names.join(" and ")));
    if args.gdb {
        progress::note(attach_line(&plan));
    }
    if keyboard::is_here() {
        progress::note(
            "the keyboard is the first guest's; Ctrl-A N: the next one's; Ctrl-A X ends the run",
        );
    }
    let verdict = match args.on {
        Host::Pinfold => on_pinfold(&plan, args)?,
        Host::Xen => on_xen(&plan)?,
    };
    if let Some(exits) = nested_kvm::exits(&plan.dir) {
        eprint!("{exits}");
    }
    let log = plan.dir.join("serial.log");
    if let Some(copy) = &args.log {
        std::fs::copy(&log, copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    progress::note(format!("log: {}", paths::shown(&log)));
    if let Some(file) = &args.report {
        let kernels = plan.guests.iter().map(|guest| (guest.name.clone(), guest.kernel.clone()));
        report::to_file(&log, &kernels.collect::<Vec<_>>(), file)?;
    } else if args.on == Host::Pinfold {
        let log = paths::shown(&log);
        progress::note(format!("what was found, and what cures it: cargo xtask report {log}"));
    }
    let word = if verdict.is_ok() { "ok" } else { "FAILED" };
    progress::note(format!("{word}: {}", verdict.why));
    Ok(verdict.exit)
}

fn on_pinfold(plan: &Plan, args: &RunArgs) -> Result<Verdict> {
    let mut facts = verdict::pinfold::Facts::default();
    // With several guests, the heads tell who speaks.
    let bare = plan.guests.len() == 1;
    let mut screen = Screen { bare, ..Screen::default() };
    let mut waiting = Some(progress::Step::start("Waiting for the firmware (a few seconds)"));
    let done = start(plan, |line| {
        facts.line(line);
        // What the firmware draws before the first record is of no interest.
        if facts.alive || args.boot_log {
            waiting = None;
            return screen.line(line);
        }
        Watch::On
    })?;
    drop(waiting);
    if done.ended == Ended::Quit {
        return Ok(Verdict::quit());
    }
    if !facts.alive {
        progress::note("the hypervisor printed nothing; the end of what the firmware printed:");
        tail(&done.log, 12).iter().for_each(|line| eprintln!("    {line}"));
        if !args.boot_log {
            progress::note("--boot-log shows what the bootloader did");
        }
    }
    Ok(verdict::pinfold::judge(&facts, &done.ended, args.deny_aliases))
}

fn on_xen(plan: &Plan) -> Result<Verdict> {
    let mut facts = verdict::xen::Facts::default();
    let mut screen = Screen::default();
    let done = start(plan, |line| {
        let shown = screen.line(line);
        if facts.line(line) == Watch::Enough { Watch::Enough } else { shown }
    })?;
    if done.ended == Ended::Quit {
        return Ok(Verdict::quit());
    }
    Ok(verdict::xen::judge(&facts, &done.ended))
}

/// What a person sees: whole lines, or every byte from the first line on where somebody types.
#[derive(Debug, Default)]
struct Screen {
    live: bool,
    bare: bool,
}

impl Screen {
    fn line(&mut self, line: &str) -> Watch {
        if self.live {
            return Watch::On;
        }
        println!("{line}");
        self.live = keyboard::is_here();
        match (self.live, self.bare) {
            (false, _) => Watch::On,
            (true, false) => Watch::Live,
            (true, true) => Watch::LiveBare,
        }
    }
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
    let wrong = |line: &&str| {
        [" WRONG ", " wrong: ", "STEP failed "].iter().any(|mark| line.contains(mark))
    };
    text.lines().filter(wrong).take(count).map(str::to_owned).collect()
}
