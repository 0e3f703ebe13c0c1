//! One guest of a whole-machine case: what it is given, and how it must end.

use super::corrupt_image::Corruption;
use crate::fetch::grub;
use crate::guests::{DEFAULT_MEMORY, Guest};
use crate::verdict::{self, Said};
use crate::{cargo, linux};
use pinfold_image::size::Size;
use pinfold_image::{CachePolicy, Container};
use std::path::Path;

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
    /// What its kernel runs in.
    pub(super) container: Container,
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
            container: Container::None,
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
    pub(super) fn is_grub(&self) -> bool {
        self.package == grub::NAME
    }

    /// True for Linux.
    pub(super) fn is_linux(&self) -> bool {
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

    /// The same with its kernel in the hardware container.
    pub(super) fn in_container(self) -> Spec {
        Spec { container: Container::Svm, ..self }
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
    pub(super) fn guest(&self, dir: &Path) -> Result<Guest, String> {
        if self.is_linux() {
            let guest = Guest::linux(&self.name, Some(linux::made()));
            let guest = guest.map_err(|error| format!("{error:#}"))?;
            let cmdline = linux::command_line(&self.cmdline);
            return Ok(Guest {
                cmdline,
                memory: self.memory,
                vcpus: self.vcpus,
                lifetime_ms: self.lifetime_ms,
                container: self.container,
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
        guest.container = self.container;
        Ok(guest)
    }
}

impl Spec {
    /// Checks that this guest ended as it must.
    pub(super) fn check(&self, facts: &verdict::pinfold::Facts) -> Result<(), String> {
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
