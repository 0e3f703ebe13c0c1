//! One whole-machine case: what runs, and what its log must say.

use super::corrupt_image::Corruption;
use crate::accel::Accel;
use crate::cargo;
use crate::cli::Host;
use crate::exit::Exit;
use crate::fetch::grub;
use crate::guests::{DEFAULT_MEMORY, Guest};
use crate::linux;
use crate::machine::{Ended, Input, Machine, Watch};
use crate::run::{Plan, memory_for, processors_for, start};
use crate::verdict::{self, Said, Verdict};
use pinfold_abi::record::{Fields, Record, kind};
use pinfold_image::manifest::LogLevel;
use pinfold_image::size::Size;
use pinfold_image::{CachePolicy, Isolation};
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// Time limit in seconds: a boot takes four here, and a busy machine may be many times slower.
const LIMIT: u64 = 120;

/// A case of the table.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name, also of its folder.
    pub(super) name: String,
    /// What it runs on.
    pub(super) on: Host,
    /// Its guests.
    pub(super) guests: Vec<Spec>,
    /// Processors of the machine.
    pub(super) smp: u16,
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
    pub(super) says: Vec<&'static str>,
    /// Texts that no line of the log may hold.
    pub(super) never: Vec<&'static str>,
    /// The hypervisor's log level.
    pub(super) log: LogLevel,
    /// Whether Pinfold's guests run on page tables without the hypervisor's memory.
    pub(super) isolation: Isolation,
    /// It runs once more at every other log level, and the guests must print the same each time.
    pub(super) at_every_level: bool,
    /// It runs under `--icount`, and no LATENCY record may have more than this.
    pub(super) latency: Option<Latency>,
    /// What is typed, each when a line has a text, one after the other.
    pub(super) types: Vec<(&'static str, &'static str)>,
    /// The processor, in QEMU's words, if it isn't the usual one.
    pub(super) cpu: Option<&'static str>,
    /// Bytes a second that the serial line takes; as many as come, if not given.
    pub(super) serial_rate: Option<NonZeroU32>,
    /// Pinfold watches some of the frames that guests give back.
    pub(super) canaries: bool,
}

/// Most time that a processor may keep others waiting, in what QEMU's `-icount shift=0` makes a
/// nanosecond: instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// Without servicing IPIs.
    pub(super) ipi: u64,
    /// With interrupts off.
    pub(super) irq_off: u64,
    /// Without a look at the scheduler.
    pub(super) sched: u64,
}

/// What a guest must print alike on both hypervisors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agree {
    /// First words of the lines that are compared.
    pub(super) lines: &'static [&'static str],
    /// What differs by nature: the beginning of the line, the field, and why.
    pub(super) but: &'static [(&'static str, &'static str, &'static str)],
    /// Lines with this first word may stand here only if they stand there as well, whatever
    /// their numbers are, or begin like one of these, each with the reason.
    pub(super) no_more: Option<(&'static str, &'static [(&'static str, &'static str)])>,
}

/// A guest of a case.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Its name.
    pub(super) name: String,
    /// The package in tests/guests that it is, or Linux.
    pub(super) package: &'static str,
    /// How its image is corrupted first.
    pub(super) corruption: Option<Corruption>,
    /// Its command line.
    pub(super) cmdline: String,
    /// Its memory.
    pub(super) memory: Size,
    /// Its virtual processors.
    pub(super) vcpus: u32,
    /// Milliseconds after which Pinfold destroys it.
    pub(super) lifetime_ms: Option<u32>,
    /// Whether it lacks the right to ask for audits and frame dumps.
    pub(super) unprivileged: bool,
    /// Whether Pinfold logs what its frames are when it ends.
    pub(super) dump_frames: bool,
    /// What mixing memory types leads to.
    pub(super) cache: CachePolicy,
    /// How it must end.
    pub(super) end: End,
}

/// How a guest must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It says that it passed, and powers off.
    Pass,
    /// It shuts down with the reason "crash".
    Fail,
    /// It is shut down because it doesn't feed its watchdog.
    Watchdog,
    /// The hypervisor ends it.
    Crash,
    /// It is refused, with this text in the reason.
    Refused(&'static str),
}

impl Spec {
    /// A guest that must pass.
    pub(super) fn new(package: &'static str) -> Spec {
        Spec {
            name: package.into(),
            package,
            corruption: None,
            cmdline: String::new(),
            memory: DEFAULT_MEMORY,
            vcpus: 1,
            lifetime_ms: None,
            unprivileged: false,
            dump_frames: false,
            cache: CachePolicy::Strict,
            end: End::Pass,
        }
    }

    /// Linux, which must pass its test of this length; `more` goes to its command line.
    pub(super) fn linux(vcpus: u32, rounds: u32, more: &str) -> Spec {
        let cmdline =
            format!("{} pinfold.rounds={rounds} pinfold.cpus={vcpus} {more}", linux::TEST);
        Spec { cmdline, memory: linux::MEMORY, vcpus, ..Spec::new(linux::NAME) }
    }

    /// Debian's GRUB, which passes when the verdict is typed at its prompt.
    pub(super) fn grub() -> Spec {
        Spec::new(grub::NAME)
    }

    /// True for GRUB.
    fn is_grub(&self) -> bool {
        self.package == grub::NAME
    }

    /// True for Linux.
    fn is_linux(&self) -> bool {
        self.package == linux::NAME
    }

    /// The same with a name.
    pub(super) fn named(self, name: &str) -> Spec {
        Spec { name: name.into(), ..self }
    }

    /// The same with a command line.
    pub(super) fn with_cmdline(self, cmdline: &str) -> Spec {
        Spec { cmdline: cmdline.into(), ..self }
    }

    /// The same with this much memory.
    pub(super) fn with_memory(self, memory: Size) -> Spec {
        Spec { memory, ..self }
    }

    /// The same with so many virtual processors.
    pub(super) fn with_vcpus(self, vcpus: u32) -> Spec {
        Spec { vcpus, ..self }
    }

    /// The same, but destroyed after so many milliseconds, in the middle of what it does.
    pub(super) fn destroyed_after(self, ms: u32) -> Spec {
        Spec { lifetime_ms: Some(ms), end: End::Crash, ..self }
    }

    /// The same with another end.
    pub(super) fn ends(self, end: End) -> Spec {
        Spec { end, ..self }
    }

    /// The guest for the run; a corrupted image is written to `dir`.
    fn guest(&self, dir: &Path) -> Result<Guest, String> {
        if self.is_linux() {
            let guest = Guest::linux(&self.name, Some(linux::made()));
            let guest = guest.map_err(|error| format!("{error:#}"))?;
            let cmdline = linux::command_line(&self.cmdline);
            return Ok(Guest {
                cmdline,
                memory: self.memory,
                vcpus: self.vcpus,
                lifetime_ms: self.lifetime_ms,
                ..guest
            });
        }
        let mut kernel = if self.is_grub() { grub::program() } else { cargo::built(self.package) };
        if let Some(corruption) = self.corruption {
            let bytes = std::fs::read(&kernel).map_err(|error| error.to_string())?;
            kernel = dir.join(format!("{}.elf", self.name));
            let bytes =
                corruption.apply(bytes).ok_or("the image has nothing to corrupt that way")?;
            std::fs::write(&kernel, bytes).map_err(|error| error.to_string())?;
        }
        let mut guest = Guest::new(&self.name, kernel);
        guest.cmdline.clone_from(&self.cmdline);
        guest.memory = self.memory;
        guest.vcpus = self.vcpus;
        guest.lifetime_ms = self.lifetime_ms;
        guest.diagnose = !self.unprivileged;
        guest.dump_frames = self.dump_frames;
        guest.cache = self.cache;
        Ok(guest)
    }
}

impl Case {
    /// A case on Pinfold whose exit status follows from how its guests must end.
    pub(super) fn new(name: &str, guests: Vec<Spec>) -> Case {
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
            on: Host::Pinfold,
            guests,
            smp: 1,
            limit: LIMIT,
            deny_aliases: false,
            deny_refusals: false,
            exit,
            order: None,
            agree: None,
            says: Vec::new(),
            never: Vec::new(),
            log: LogLevel::default(),
            isolation: Isolation::Auto,
            at_every_level: false,
            latency: None,
            types: Vec::new(),
            cpu: None,
            serial_rate: None,
            canaries: false,
        }
    }

    /// The same on Xen.
    pub(super) fn on_xen(self) -> Case {
        Case { name: format!("{}-on-xen", self.name), on: Host::Xen, ..self }
    }

    /// The same with page-table isolation, which must have been in use.
    pub(super) fn isolated(mut self) -> Case {
        self.says.extend(["isolation=on wanted=on", "isolation=on cpu=0 mapped_pages="]);
        Case { name: format!("{}-isolated", self.name), isolation: Isolation::On, ..self }
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

    /// Runs it; the error is one line that says what was not as it must be.
    pub(super) fn run(&self, accel: Accel, dir: &Path) -> Result<(), String> {
        let printed = self.run_on(self.on, accel, dir)?;
        if self.at_every_level {
            for log in LogLevel::ALL.iter().copied().filter(|level| *level != self.log) {
                let other = Case { log, ..self.clone() };
                let there = other.run_on(self.on, accel, dir);
                let there = there.map_err(|why| format!("at level {}: {why}", log.name()))?;
                same(&printed, &there).map_err(|why| format!("at level {}: {why}", log.name()))?;
            }
        }
        let Some(agree) = self.agree else { return Ok(()) };
        let on_xen = self.run_on(Host::Xen, accel, dir).map_err(|why| format!("on Xen: {why}"))?;
        agree.hold(&printed, &on_xen)
    }

    /// Runs it on one of the two; gives what the guest printed.
    fn run_on(&self, on: Host, accel: Accel, dir: &Path) -> Result<Vec<String>, String> {
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
                mem: memory_for(&guests),
                accel,
                icount: self.latency.is_some(),
                gdb: false,
                screen: false,
                cpu: self.cpu.map(str::to_owned),
                serial_rate: self.serial_rate,
            },
            guests,
            log: self.log,
            canaries: self.canaries,
            isolation: self.isolation,
            limit: Some(Duration::from_secs(self.limit)),
            input: if self.types.is_empty() { Input::Nothing } else { Input::Watcher },
            dir: dir.to_path_buf(),
        };
        let mut missing = if on == self.on { self.says.clone() } else { Vec::new() };
        let mut torn = Torn::default();
        let mut printed = Vec::new();
        let mut forbidden = None;
        let mut seen = |line: &str| {
            if let Some(text) = self.never.iter().find(|text| line.contains(**text)) {
                forbidden.get_or_insert_with(|| format!("the log says `{text}`: {line}"));
            }
            missing.retain(|text| !line.contains(text));
            torn.line(line);
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
                self.hold_pinfold(&facts, &done.ended)?;
            }
            Host::Xen => {
                let mut facts = verdict::xen::Facts::default();
                let done = start(&plan, |line| {
                    seen(line);
                    facts.line(line)
                })
                .map_err(|error| format!("{error:#}"))?;
                self.hold_xen(&facts, &done.ended)?;
            }
        }
        if let Some(line) = torn.found.filter(|_| self.serial_rate.is_some()) {
            return Err(format!("a record is torn: `{line}`"));
        }
        match (forbidden, missing.first()) {
            (Some(why), _) => Err(why),
            (None, Some(text)) => Err(format!("the log never says `{text}`")),
            (None, None) => Ok(printed),
        }
    }

    fn hold_exit(&self, verdict: &Verdict) -> Result<(), String> {
        if verdict.exit == self.exit {
            return Ok(());
        }
        Err(format!("{:?}, not {:?}: {}", verdict.exit, self.exit, verdict.why))
    }

    fn hold_xen(&self, facts: &verdict::xen::Facts, ended: &Ended) -> Result<(), String> {
        self.hold_exit(&verdict::xen::judge(facts, ended))?;
        if self.exit == Exit::Ok && !matches!(facts.said, Some(Said::Pass(_))) {
            return Err("the guest gave no verdict".into());
        }
        Ok(())
    }

    fn hold_pinfold(&self, facts: &verdict::pinfold::Facts, ended: &Ended) -> Result<(), String> {
        // The guests first: what they did explains the status better than the other way round.
        if facts.end.is_some() {
            self.guests.iter().try_for_each(|spec| spec.hold(facts))?;
        }
        self.hold_exit(&verdict::pinfold::judge(facts, ended, self.deny_aliases))?;
        if let Some(refusal) = facts.refusal.as_ref().filter(|_| self.deny_refusals) {
            return Err(format!("a request was refused: {refusal}"));
        }
        if let Some(latency) = self.latency {
            latency.hold(&facts.latencies)?;
        }
        if let Some((first, second)) = self.order {
            let place = |name| facts.shut_down.iter().position(|(ended, _)| ended == name);
            if place(first) > place(second) {
                return Err(format!("{first} ended only after {second}"));
            }
        }
        Ok(())
    }
}

/// Looks for records that are not whole.
#[derive(Debug, Default)]
struct Torn {
    begun: bool,
    found: Option<String>,
}

impl Torn {
    /// Takes a line of Pinfold's log. Before the first record the firmware speaks; what stands behind
    /// a guest's head is its own.
    fn line(&mut self, line: &str) {
        let record = Record::parse(line);
        let guests = record.is_some_and(|record| record.head.kind == kind::CONSOLE);
        let glued = !guests && line.matches("] ").count() > 1;
        let whole = record.is_some() && !glued || line.is_empty();
        self.begun |= record.is_some();
        if self.begun && !whole && self.found.is_none() {
            self.found = Some(line.to_owned());
        }
    }
}

impl Spec {
    /// Holds the log against how this guest must end.
    fn hold(&self, facts: &verdict::pinfold::Facts) -> Result<(), String> {
        let name = &self.name;
        let reason = |list: &[(String, String)]| {
            list.iter().find(|(known, _)| known == name).map(|(_, reason)| reason.clone())
        };
        let shut_down = reason(&facts.shut_down);
        let good = match self.end {
            End::Pass => {
                let passed = matches!(facts.said_by(name), Some(Said::Pass(_)));
                passed && shut_down.as_deref() == Some("poweroff")
            }
            End::Fail => shut_down.as_deref() == Some("crash"),
            End::Watchdog => shut_down.as_deref() == Some("watchdog"),
            End::Crash => reason(&facts.crashed).is_some(),
            End::Refused(text) => reason(&facts.refused).is_some_and(|why| why.contains(text)),
        };
        if good {
            return Ok(());
        }
        let found = if let Some(why) = shut_down {
            format!("it shut down ({why}) and said {:?}", facts.said_by(name))
        } else if let Some(why) = reason(&facts.crashed) {
            format!("it crashed: {why}")
        } else if let Some(why) = reason(&facts.refused) {
            format!("it was refused: {why}")
        } else {
            "nothing is known of its end".into()
        };
        Err(format!("{name} should end with {:?}, but {found}", self.end))
    }
}

impl Latency {
    /// Holds the records of all processors against it.
    fn hold(&self, records: &[String]) -> Result<(), String> {
        if records.is_empty() {
            return Err("the log has no LATENCY record".into());
        }
        let limits = [("ipi_us", self.ipi), ("irq_off_us", self.irq_off), ("sched_us", self.sched)];
        for body in records {
            for (key, limit) in limits {
                let value = Fields::of(body).find(|(name, _)| *name == key);
                let us: u64 = value
                    .and_then(|(_, value)| value.parse().ok())
                    .ok_or(format!("no {key} in `{body}`"))?;
                if us > limit.div_ceil(1000) {
                    return Err(format!("{key} is above {} us: {body}", limit.div_ceil(1000)));
                }
            }
        }
        Ok(())
    }
}

impl Agree {
    /// Holds what was printed on one against what was printed on the other.
    fn hold(&self, here: &[String], there: &[String]) -> Result<(), String> {
        self.hold_no_more(here, there)?;
        let (here, there) = (self.comparable(here), self.comparable(there));
        if here.is_empty() {
            return Err(format!("the guest printed no line with {}", self.lines.join(" or ")));
        }
        for at in 0..here.len().max(there.len()) {
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or("nothing".into());
            let (ours, theirs) = (line(&here), line(&there));
            if ours != theirs {
                return Err(format!("Pinfold and Xen differ: `{ours}` here, `{theirs}` there"));
            }
        }
        Ok(())
    }

    /// No line of the kind that must not stand here alone does.
    fn hold_no_more(&self, here: &[String], there: &[String]) -> Result<(), String> {
        let Some((word, known)) = self.no_more else { return Ok(()) };
        let shapes = |lines: &[String]| -> BTreeSet<String> {
            let kind = |line: &&String| line.split(' ').next() == Some(word);
            lines.iter().filter(kind).map(|line| shape(line)).collect()
        };
        let (here, there) = (shapes(here), shapes(there));
        let expected = |line: &str| known.iter().any(|(start, _)| line.starts_with(start));
        match here.difference(&there).find(|line| !expected(line)) {
            Some(line) => Err(format!("only on Pinfold: `{line}`")),
            None => Ok(()),
        }
    }

    /// The lines that count, without the fields that do not.
    fn comparable(&self, lines: &[String]) -> Vec<String> {
        let of_interest =
            |line: &&String| line.split(' ').next().is_some_and(|word| self.lines.contains(&word));
        let kept = |line: &String| {
            let counts = |word: &&str| {
                let field = word.split_once('=').map_or(*word, |(field, _)| field);
                !self.but.iter().any(|(start, but, _)| line.starts_with(start) && field == *but)
            };
            line.split(' ').filter(counts).collect::<Vec<_>>().join(" ")
        };
        lines.iter().filter(of_interest).map(kept).collect()
    }
}

/// What tells how long something took, or how often a timer came meanwhile: no two runs have the
/// same, whatever is logged. The number behind each of these is left out of the comparison.
const TIMES: &[&str] = &["preemptions: ", "ticks=", "_ns: "];

/// A line without its times.
fn timeless(line: &str) -> String {
    let mut out = line.to_owned();
    for name in TIMES {
        let mut pieces = out.split(name);
        let first = pieces.next().unwrap_or_default().to_owned();
        out = pieces.fold(first, |before, after| {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{name}#{after}")
        });
    }
    out
}

/// Holds what was printed at one level against what was printed at another, but for times.
fn same(here: &[String], there: &[String]) -> Result<(), String> {
    if here.is_empty() {
        return Err("nothing was printed, so nothing is compared".into());
    }
    for at in 0..here.len().max(there.len()) {
        let line = |lines: &[String]| lines.get(at).map_or("nothing".into(), |line| timeless(line));
        let (ours, theirs) = (line(here), line(there));
        if ours != theirs {
            return Err(format!("`{ours}` at the usual level, `{theirs}` at this one"));
        }
    }
    Ok(())
}

/// A line with every number, decimal or not, made the same.
fn shape(line: &str) -> String {
    let hollow = |word: &str| {
        let digits = word.trim_start_matches("0x").trim_end_matches([',', ':', '.', ')']);
        digits.contains(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_hexdigit() || "-.".contains(c))
    };
    line.split(' ').map(|word| if hollow(word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREE: Agree = Agree {
        lines: &["SUM"],
        but: &[("SUM a", "cost", "other machine")],
        no_more: Some(("COMPLAINT", &[("COMPLAINT no disk", "it has none")])),
    };

    fn held(here: &[&str], there: &[&str]) -> Result<(), String> {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        AGREE.hold(&own(here), &own(there))
    }

    #[test]
    fn only_listed_fields_may_differ() {
        assert!(held(&["x", "SUM a n=1 cost=2"], &["SUM a n=1 cost=3", "y"]).is_ok());
        assert!(held(&["SUM a n=1"], &["SUM a n=2"]).is_err());
        assert!(held(&["SUM b cost=1"], &["SUM b cost=2"]).is_err());
        assert!(held(&["SUM b n=1"], &[]).is_err());
        assert!(held(&["SUM b"], &["SUM b", "SUM c"]).is_err());
        assert!(held(&["x"], &["x"]).is_err(), "nothing compared proves nothing");
    }

    #[test]
    fn what_is_printed_must_be_the_same_at_every_level() {
        let lines = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert!(same(&lines(&["a", "b"]), &lines(&["a", "b"])).is_ok());
        for there in [&["a"][..], &["a", "c"], &["a", "b", "c"]] {
            assert!(same(&lines(&["a", "b"]), &lines(there)).is_err(), "{there:?}");
        }
        assert!(same(&[], &[]).is_err());
        let stats = |flushes: u8, preemptions: u8| {
            vec![format!(
                "Stats {{ flushes: {flushes}, preemptions: {preemptions}, healed: 0, ipi_ns: {0}, irq_off_ns: {0} }}",
                preemptions * 7
            )]
        };
        assert!(same(&stats(1, 2), &stats(1, 30)).is_ok());
        assert!(same(&stats(1, 2), &stats(2, 2)).is_err());
    }

    #[test]
    fn torn_records_are_found() {
        let good = ["BdsDxe: starting", "[   0.000001] hv INFO ok", "[   0.000002] d1 | a] b] c"];
        for (bad, found) in [
            ("", false),
            ("[   0.000003] hv END ok=1", false),
            ("ok=1", true),
            ("[   0.0003] d1 MARK text=\"a\"", true),
            ("[   0.000003] d1 MARK a[   0.000004] hv END ok=1", true),
        ] {
            let mut torn = Torn::default();
            good.into_iter().chain([bad]).for_each(|line| torn.line(line));
            assert_eq!(torn.found.is_some(), found, "{bad}");
        }
    }

    #[test]
    fn latencies_are_held_against_their_limits() {
        let limits = Latency { ipi: 1_000_000, irq_off: 2_000_000, sched: 1_500_000 };
        let held = |bodies: &[&str]| {
            limits.hold(&bodies.iter().map(|body| (*body).to_owned()).collect::<Vec<_>>())
        };
        let good = "cpu=0 ipi_us=1000 ipi_at=mmu_update irq_off_us=2000 sched_us=1500";
        assert!(held(&[good]).is_ok());
        assert!(held(&[]).is_err(), "nothing measured proves nothing");
        assert!(held(&["cpu=0 ipi_us=1 irq_off_us=1"]).is_err());
        for bad in [
            "ipi_us=1001 irq_off_us=1 sched_us=1",
            "ipi_us=1 irq_off_us=2001 sched_us=1",
            "ipi_us=1 irq_off_us=1 sched_us=1501",
        ] {
            assert!(held(&[good, bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn complaints_must_be_known_there() {
        let sum = "SUM b";
        let known = "COMPLAINT cpu 1 lock irq 35";
        assert!(held(&[sum, "COMPLAINT cpu 0 lock irq 0x7f"], &[known, sum]).is_ok());
        assert!(held(&[sum, "COMPLAINT no disk here"], &[sum]).is_ok());
        assert!(held(&[sum], &[known, sum]).is_ok());
        assert!(held(&[sum, "COMPLAINT cpu 0 clock irq 7"], &[known, sum]).is_err());
        assert!(held(&[sum, known], &[sum]).is_err());
    }
}
