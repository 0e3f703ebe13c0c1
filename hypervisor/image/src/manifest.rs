//! The boot manifest: what the hypervisor is to run and how the machine is to end.
//!
//! It is the file [`FILE_NAME`] in the boot archive (a plain tar), next to the kernels and initrds
//! that it names. A whole one:
//!
//! ```toml
//! exit = { debug-exit = 0xf4 }   # or "halt", the default
//! log = "info"
//! canaries = true                # optional, for tests: frames that guests gave back are watched
//! isolate-page-tables = "auto"   # or "on", "off"
//!
//! [[domain]]
//! name = "stress"
//! kernel = "stress.elf"          # a file of the archive
//! initrd = "initrd.img"          # optional
//! cmdline = "rounds=100 seed=7"  # optional
//! memory = "64M"                 # or a number of bytes
//! vcpus = 1                      # optional
//! cache = "strict"               # optional: or "report", what mixing memory types leads to
//! lifetime-ms = 5000             # optional: destroyed by then, whatever it does
//! diagnose = true                # optional: it may ask for audits and frame dumps
//! dump-frames = true             # optional: when it ends, what its frames are goes to the log
//! ```

use crate::size::Size;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::start_info::MAX_GUEST_CMDLINE;
use serde::{Deserialize, Serialize};

/// The manifest's name in the boot archive.
pub const FILE_NAME: &str = "pinfold.toml";
/// Most domains of one manifest. Domain 0 is the hypervisor's own view, so ids begin at 1.
pub const MAX_DOMAINS: usize = 64;
/// Most vCPUs of a domain: the slots that `shared_info` has for them.
pub const MAX_VCPUS: u32 = 32;
/// Longest name of a domain: it stands in every log line of the domain.
pub const MAX_NAME: usize = 32;
/// Longest name of a file in the archive: what the classic tar header holds.
pub const MAX_FILE_NAME: usize = 100;

/// How the machine ends when the last domain has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// All processors halt; somebody looks at the log and switches off.
    #[default]
    Halt,
    /// The verdict is written to this port, where QEMU's `isa-debug-exit` device ends the emulator.
    DebugExit(u16),
}

/// How much the hypervisor logs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what ends something.
    Error,
    /// And what is wrong: violations are here.
    Warn,
    /// And what happens: domains start and end.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// All of them, the quietest first.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// Its name in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> log::LevelFilter {
        match level {
            LogLevel::Error => log::LevelFilter::Error,
            LogLevel::Warn => log::LevelFilter::Warn,
            LogLevel::Info => log::LevelFilter::Info,
            LogLevel::Debug => log::LevelFilter::Debug,
            LogLevel::Trace => log::LevelFilter::Trace,
        }
    }
}

/// What is done when a domain maps memory in several ways of caching (write-back here, uncached
/// there), which breaks it on real machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caching {
    /// The mapping is refused, and the log names the others.
    #[default]
    Strict,
    /// The log names the others, and the mapping is made.
    Report,
}

/// Whether guests run on page tables without the hypervisor's memory, which a processor with
/// Meltdown would let them read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// If the processor needs it.
    #[default]
    Auto,
    /// On any processor.
    On,
    /// On none: guests may be able to read all of memory.
    Off,
}

impl Isolation {
    /// Its name in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Isolation::Auto => "auto",
            Isolation::On => "on",
            Isolation::Off => "off",
        }
    }
}

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// How the machine ends.
    #[serde(default)]
    pub exit: Exit,
    /// How much is logged.
    #[serde(default)]
    pub log: LogLevel,
    /// Whether the hypervisor takes some of the frames that guests give back, fills them with a
    /// pattern, and watches it: for tests.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub canaries: bool,
    /// Whether guests are kept from reading the hypervisor's memory by speculation.
    #[serde(default, rename = "isolate-page-tables")]
    pub isolate_page_tables: Isolation,
    /// The domains, in the order in which they are started.
    #[serde(rename = "domain")]
    pub domains: Vec<DomainConfig>,
}

/// One domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Its name in the log: letters, digits, `-`, `_` and `.`; unique.
    pub name: String,
    /// File name of the kernel image in the boot archive.
    pub kernel: String,
    /// File name of the initial ramdisk in the boot archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The kernel's command line, at most 1023 bytes.
    #[serde(default)]
    pub cmdline: String,
    /// Its memory, whole pages.
    pub memory: Size,
    /// Its virtual processors.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Milliseconds that it may run: then it is destroyed, in the middle of whatever it does.
    #[serde(default, rename = "lifetime-ms", skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u32>,
    /// Whether it may ask for what takes the whole machine's time: audits, which stop the other
    /// processors, and frame dumps, which fill the log.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub diagnose: bool,
    /// Whether what its frames are is written to the log when it ends.
    #[serde(default, rename = "dump-frames", skip_serializing_if = "core::ops::Not::not")]
    pub dump_frames: bool,
    /// What mixing memory types leads to.
    #[serde(default)]
    pub cache: Caching,
}

impl DomainConfig {
    /// Its memory in pages.
    pub const fn pages(&self) -> u64 {
        self.memory.bytes() / PAGE_SIZE
    }
}

const fn one() -> u32 {
    1
}

/// Why a manifest was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// It is not UTF-8.
    Encoding {
        /// Bytes that are good.
        valid_up_to: usize,
    },
    /// It is not TOML, or a field is missing, unknown or of the wrong kind.
    Syntax {
        /// Line, counted from 1; 0 when the error is not about one place.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// A field's value is not acceptable.
    Value {
        /// The field, with its domain: `domain[1].memory`.
        field: String,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::Encoding { valid_up_to } => {
                write!(f, "{FILE_NAME}: not UTF-8 after byte {valid_up_to}")
            }
            ManifestError::Syntax { line: 0, message, .. } => write!(f, "{FILE_NAME}: {message}"),
            ManifestError::Syntax { line, text, message } => {
                write!(f, "{FILE_NAME} line {line}: {message} in `{text}`")
            }
            ManifestError::Value { field, message } => {
                write!(f, "{FILE_NAME}: {field}: {message}")
            }
        }
    }
}

impl core::error::Error for ManifestError {}

impl Manifest {
    /// Reads and checks a manifest as it stands in the archive.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let text = core::str::from_utf8(bytes)
            .map_err(|e| ManifestError::Encoding { valid_up_to: e.valid_up_to() })?;
        let manifest: Manifest = toml::from_str(text).map_err(|e| syntax_error(text, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks what the types do not say.
    pub fn check(&self) -> Result<(), ManifestError> {
        let value = |field: String, message: String| Err(ManifestError::Value { field, message });
        if self.domains.is_empty() || self.domains.len() > MAX_DOMAINS {
            return value(
                "domain".to_string(),
                alloc::format!(
                    "there are {}; there must be 1 to {MAX_DOMAINS}",
                    self.domains.len()
                ),
            );
        }
        for (index, domain) in self.domains.iter().enumerate() {
            if let Err((field, message)) = domain.check() {
                return value(alloc::format!("domain[{index}].{field}"), message);
            }
            if let Some(first) = self.domains[..index].iter().position(|d| d.name == domain.name) {
                return value(
                    alloc::format!("domain[{index}].name"),
                    alloc::format!("`{}` is already the name of domain[{first}]", domain.name),
                );
            }
        }
        Ok(())
    }

    /// The manifest as TOML, as [`Manifest::parse`] reads it; checked first, so that a bad one is
    /// refused when the boot image is made and not when it boots.
    #[cfg(feature = "write")]
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        self.check()?;
        toml::to_string(self).map_err(|e| ManifestError::Syntax {
            line: 0,
            text: String::new(),
            message: e.to_string(),
        })
    }

    /// The files that the archive must hold besides the manifest, each once.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let all: Vec<&str> = self
            .domains
            .iter()
            .flat_map(|d| [Some(d.kernel.as_str()), d.initrd.as_deref()])
            .flatten()
            .collect();
        (0..all.len()).filter_map(move |i| (!all[..i].contains(&all[i])).then_some(all[i]))
    }
}

impl DomainConfig {
    /// The first bad field and what is wrong with it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(plain) {
            return Err((
                "name",
                alloc::format!(
                    "`{}` must be 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`",
                    self.name.escape_debug()
                ),
            ));
        }
        check_file(&self.kernel).map_err(|message| ("kernel", message))?;
        if let Some(initrd) = &self.initrd {
            check_file(initrd).map_err(|message| ("initrd", message))?;
        }
        if self.cmdline.len() >= MAX_GUEST_CMDLINE {
            return Err((
                "cmdline",
                alloc::format!(
                    "{} bytes long; at most {} fit",
                    self.cmdline.len(),
                    MAX_GUEST_CMDLINE - 1
                ),
            ));
        }
        if self.cmdline.contains('\0') {
            return Err(("cmdline", "contains a NUL".to_string()));
        }
        if self.memory.bytes() == 0 || !self.memory.bytes().is_multiple_of(PAGE_SIZE) {
            return Err((
                "memory",
                alloc::format!("{} bytes is not a whole number of pages", self.memory.bytes()),
            ));
        }
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            return Err(("vcpus", alloc::format!("{} is not 1 to {MAX_VCPUS}", self.vcpus)));
        }
        Ok(())
    }
}

fn check_file(name: &str) -> Result<(), String> {
    let plain = |c: char| !c.is_control() && c != '\\';
    if name.is_empty() || name.len() > MAX_FILE_NAME || !name.chars().all(plain) {
        return Err(alloc::format!(
            "`{}` is not a file name of 1 to {MAX_FILE_NAME} bytes",
            name.escape_debug()
        ));
    }
    if name == FILE_NAME {
        return Err(alloc::format!("`{name}` is the manifest itself"));
    }
    Ok(())
}

/// The error with the line it is about: the parser's own rendering takes several lines, and a log
/// record has one.
fn syntax_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let mut message = error.message().replace('\n', "; ");
    let (mut line, mut place) = (0, "");
    if let Some(span) = error.span() {
        let before = text.get(..span.start.min(text.len())).unwrap_or(text);
        line = before.matches('\n').count() + 1;
        place = text.lines().nth(line - 1).unwrap_or("").trim();
    }
    if message.is_empty() {
        message = "not understood".to_string();
    }
    let text = place.chars().take(80).collect();
    ManifestError::Syntax { line, text, message }
}
