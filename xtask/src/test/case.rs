//! One whole-machine case: what runs, and what its log must say.

use super::expect::agree::Agree;
use super::expect::latency::Latency;
use super::expect::levels;
use super::expect::report::Report;
use super::expect::torn::Torn;
use super::list::When;
use super::spec::{End, Spec};
use crate::accel::Accel;
use crate::cli::Host;
use crate::exit::Exit;
use crate::machine::{Ended, Input, Machine, Start, Watch};
use crate::progress;
use crate::run::{Plan, memory_for, processors_for, start};
use crate::verdict::{self, Said, Verdict};
use pinfold_image::manifest::LogLevel;
use pinfold_image::{Container, Isolation};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// Time limit in seconds: a boot takes four here, and a busy machine may be many times slower.
const LIMIT: u64 = 120;

/// Time limit in seconds of a run for comparison on Xen. It can be run twice, so it is shorter than
/// the longest cases' own.
const COMPARISON_LIMIT: u64 = 300;

/// Why a run failed.
struct Failure {
    why: String,
    timed_out: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure { why, timed_out: false }
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Failure {
        why.to_owned().into()
    }
}

/// What was seen in a run.
struct Seen {
    /// What the guests printed.
    printed: Vec<String>,
    /// What the hypervisor reported about them.
    report: Report,
}

/// A case of the table.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name for filters, and for its folder in target/runs.
    pub(super) name: String,
    /// What a pass shows, in one line.
    pub(super) about: String,
    /// What it runs on.
    pub(super) on: Host,
    /// Its guests.
    pub(super) guests: Vec<Spec>,
    /// Processors of the machine.
    pub(super) smp: u16,
    /// It runs under KVM: this machine's, or nested in QEMU's translator.
    pub(super) kvm: bool,
    /// When it runs.
    pub(super) when: When,
    /// Its time limit in seconds.
    pub(super) limit: u64,
    /// `--deny-aliases`.
    pub(super) deny_aliases: bool,
    /// No request of a guest may be refused for what it would do to memory.
    pub(super) deny_refusals: bool,
    /// The exit status it must have.
    pub(super) exit: Exit,
    /// Two guests of which the first must end before the second.
    pub(super) order: Option<(&'static str, &'static str)>,
    /// It runs on both hypervisors, and the guest must print the same.
    pub(super) agree: Option<Agree>,
    /// Texts that the log must hold, each on some line; not where it runs for comparison only.
    pub(super) log_has: Vec<&'static str>,
    /// Texts that no line of the log may hold.
    pub(super) log_lacks: Vec<&'static str>,
    /// The hypervisor's log level.
    pub(super) log: LogLevel,
    /// Whether Pinfold's guests run on page tables without the hypervisor's memory.
    pub(super) isolation: Isolation,
    /// It runs once more at every other log level, and the guests must print the same each time.
    pub(super) at_every_level: bool,
    /// It runs once more without hardware containers, and what the hypervisor reports must be the same.
    pub(super) as_outside: bool,
    /// It runs under `--icount`, and no LATENCY record may have more than this.
    pub(super) latency: Option<Latency>,
    /// What is typed, each when a line has a text, one after the other.
    pub(super) types: Vec<(&'static str, &'static str)>,
    /// The processor for QEMU's `-cpu`, if not the default.
    pub(super) cpu: Option<&'static str>,
    /// How Pinfold is started.
    pub(super) start: Start,
    /// Bytes a second that the serial line takes; no limit if not given.
    pub(super) serial_rate: Option<NonZeroU32>,
    /// Whether Pinfold can write its log by a virtio console also without KVM.
    pub(super) virtio_console: bool,
    /// Whether Pinfold keeps canaries in some of the frames that guests give back.
    pub(super) canaries: bool,
}

impl Case {
    /// A case on Pinfold whose exit status follows from how its guests must end.
    pub(super) fn new(name: &str, about: &str, guests: Vec<Spec>) -> Case {
        let any = |wanted: fn(End) -> bool| guests.iter().any(|guest| wanted(guest.end));
        let exit = if any(|end| end == End::Crash) {
            Exit::GuestCrashed
        } else if any(|end| matches!(end, End::Refused(_))) {
            Exit::GuestNotStarted
        } else if any(|end| matches!(end, End::Fail | End::Watchdog)) {
            Exit::GuestFailed
        } else {
            Exit::Ok
        };
        Case {
            name: name.into(),
            about: about.into(),
            on: Host::Pinfold,
            guests,
            smp: 1,
            kvm: false,
            when: When::Always,
            limit: LIMIT,
            deny_aliases: false,
            deny_refusals: false,
            exit,
            order: None,
            agree: None,
            log_has: Vec::new(),
            log_lacks: Vec::new(),
            log: LogLevel::default(),
            isolation: Isolation::Auto,
            at_every_level: false,
            as_outside: false,
            latency: None,
            types: Vec::new(),
            cpu: None,
            start: Start::Firmware,
            serial_rate: None,
            virtio_console: false,
            canaries: false,
        }
    }

    /// The same on Xen.
    pub(super) fn on_xen(self) -> Case {
        Case {
            name: format!("{}-on-xen", self.name),
            about: format!("{}: the same on Xen", self.about),
            on: Host::Xen,
            ..self
        }
    }

    /// The same with page-table isolation, which must have been in use.
    pub(super) fn isolated(mut self) -> Case {
        self.log_has.extend(["isolation=on wanted=on", "isolation=on cpu=0 mapped_pages="]);
        Case {
            name: format!("{}-isolated", self.name),
            about: format!("{}: with page-table isolation", self.about),
            isolation: Isolation::On,
            ..self
        }
    }

    /// The same with all guests in the hardware container.
    pub(super) fn contained(mut self) -> Case {
        self.log_has.push("container svm asids=");
        Case {
            name: format!("container-{}", self.name),
            about: format!("{}: in the hardware container", self.about),
            guests: self.guests.into_iter().map(Spec::in_container).collect(),
            ..self
        }
    }

    /// The packages to build.
    pub(super) fn packages(&self) -> impl Iterator<Item = &'static str> {
        self.guests
            .iter()
            .filter(|guest| !guest.is_linux() && !guest.is_grub())
            .map(|guest| guest.package)
    }

    /// True if it cannot run without Debian's Linux.
    pub(super) fn needs_linux(&self) -> bool {
        self.guests.iter().any(Spec::is_linux)
    }

    /// True if it cannot run without Debian's GRUB.
    pub(super) fn needs_grub(&self) -> bool {
        self.guests.iter().any(Spec::is_grub)
    }

    /// True if it cannot run without Xen.
    pub(super) fn needs_xen(&self) -> bool {
        self.on == Host::Xen || self.agree.is_some()
    }

    /// Runs it. The error is one line that says what was wrong.
    pub(super) fn run(&self, accel: Accel, dir: &Path) -> Result<(), String> {
        let seen = self.run_on(self.on, accel, dir).map_err(|failure| failure.why)?;
        if self.as_outside {
            let container = Container::None;
            let guests = self.guests.iter().map(|guest| Spec { container, ..guest.clone() });
            let outside = Case { guests: guests.collect(), log_has: Vec::new(), ..self.clone() };
            let there = outside.run_on(self.on, accel, dir);
            let there =
                there.map_err(|other| format!("outside of the container: {}", other.why))?;
            seen.report.check_same(&there.report)?;
        }
        if self.at_every_level {
            for log in LogLevel::ALL.iter().copied().filter(|level| *level != self.log) {
                let other = Case { log, ..self.clone() };
                let there = other.run_on(self.on, accel, dir);
                let there =
                    there.map_err(|other| format!("at level {}: {}", log.name(), other.why))?;
                levels::check_same(&seen.printed, &there.printed)
                    .map_err(|why| format!("at level {}: {why}", log.name()))?;
            }
        }
        let Some(agree) = self.agree else { return Ok(()) };
        let on_xen = self.run_for_comparison(accel, dir)?;
        agree.check(&seen.printed, &on_xen)
    }

    /// Runs it on Xen, to compare. A run that hangs there is no fault of Pinfold's, and is repeated
    /// once: under QEMU's translator, Linux with two processors was seen to stop in the middle of its
    /// boot.
    fn run_for_comparison(&self, accel: Accel, dir: &Path) -> Result<Vec<String>, String> {
        let case = Case { limit: self.limit.min(COMPARISON_LIMIT), ..self.clone() };
        case.run_on(Host::Xen, accel, dir)
            .or_else(|failure| {
                if !failure.timed_out {
                    return Err(failure);
                }
                progress::note(format!("{} on Xen: {}; once more", self.name, failure.why));
                case.run_on(Host::Xen, accel, dir)
            })
            .map(|seen| seen.printed)
            .map_err(|failure| format!("on Xen: {}", failure.why))
    }

    /// Runs it on one of the two, and returns what was seen.
    fn run_on(&self, on: Host, accel: Accel, dir: &Path) -> Result<Seen, Failure> {
        let guests =
            self.guests.iter().map(|spec| spec.guest(dir)).collect::<Result<Vec<_>, _>>()?;
        let plan = Plan {
            on,
            machine: Machine {
                // Counted instructions are those of all processors: one by one they make sense.
                smp: match self.latency {
                    Some(_) => self.smp,
                    None => self.smp.max(processors_for(&guests)),
                },
                icount: self.latency.is_some(),
                cpu: self.cpu.map(str::to_owned),
                start: self.start,
                serial_rate: self.serial_rate,
                virtio_console: self.virtio_console
                    || accel != Accel::Tcg && self.serial_rate.is_none(),
                ..Machine::new(memory_for(&guests), accel)
            },
            guests,
            log: self.log,
            canaries: self.canaries,
            isolation: self.isolation,
            limit: Some(Duration::from_secs(self.limit)),
            input: if self.types.is_empty() { Input::Nothing } else { Input::Watcher },
            dir: dir.to_path_buf(),
        };
        let mut missing = if on == self.on { self.log_has.clone() } else { Vec::new() };
        let mut torn = Torn::default();
        let (mut printed, mut report) = (Vec::new(), Report::default());
        let mut forbidden = None;
        let mut seen = |line: &str| {
            if let Some(text) = self.log_lacks.iter().find(|text| line.contains(**text)) {
                forbidden.get_or_insert_with(|| format!("the log says `{text}`: {line}"));
            }
            missing.retain(|text| !line.contains(text));
            torn.line(line);
            report.line(line);
            printed.extend(verdict::printed(on, line).map(str::to_owned));
        };
        match on {
            Host::Pinfold => {
                let mut facts = verdict::pinfold::Facts::default();
                let mut to_type = self.types.iter().peekable();
                let done = start(&plan, |line| {
                    seen(line);
                    facts.line(line);
                    let next = to_type.next_if(|(text, _)| line.contains(text));
                    next.map_or(Watch::On, |(_, keys)| Watch::Type(keys))
                })
                .map_err(|error| format!("{error:#}"))?;
                self.check_pinfold(&facts, &done.ended)?;
            }
            Host::Xen => {
                let mut facts = verdict::xen::Facts::default();
                let done = start(&plan, |line| {
                    seen(line);
                    facts.line(line)
                })
                .map_err(|error| format!("{error:#}"))?;
                self.check_xen(&facts, &done.ended)?;
            }
        }
        if let Some(line) = torn.found.filter(|_| self.serial_rate.is_some()) {
            return Err(format!("a record is torn: `{line}`").into());
        }
        match (forbidden, missing.first()) {
            (Some(why), _) => Err(why.into()),
            (None, Some(text)) => Err(format!("the log never says `{text}`").into()),
            (None, None) => Ok(Seen { printed, report }),
        }
    }

    fn check_exit(&self, verdict: &Verdict) -> Result<(), Failure> {
        if verdict.exit == self.exit {
            return Ok(());
        }
        Err(Failure {
            why: format!("{:?}, not {:?}: {}", verdict.exit, self.exit, verdict.why),
            timed_out: verdict.exit == Exit::TimedOut,
        })
    }

    fn check_xen(&self, facts: &verdict::xen::Facts, ended: &Ended) -> Result<(), Failure> {
        self.check_exit(&verdict::xen::judge(facts, ended))?;
        if self.exit == Exit::Ok && !matches!(facts.said, Some(Said::Pass(_))) {
            return Err("the guest gave no verdict".into());
        }
        Ok(())
    }

    fn check_pinfold(&self, facts: &verdict::pinfold::Facts, ended: &Ended) -> Result<(), Failure> {
        // The guests first: what they did explains the status better than the other way round.
        if facts.end.is_some() {
            self.guests.iter().try_for_each(|spec| spec.check(facts))?;
        }
        self.check_exit(&verdict::pinfold::judge(facts, ended, self.deny_aliases))?;
        if let Some(refusal) = facts.refusal.as_ref().filter(|_| self.deny_refusals) {
            return Err(format!("a request was refused: {refusal}").into());
        }
        if let Some(latency) = self.latency {
            latency.check(&facts.latencies)?;
        }
        if let Some((first, second)) = self.order {
            let place = |name| facts.shut_down.iter().position(|(ended, _)| ended == name);
            if place(first) > place(second) {
                return Err(format!("{first} ended only after {second}").into());
            }
        }
        Ok(())
    }
}
