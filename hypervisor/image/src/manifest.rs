//! The boot manifest: which domains to run, and how the machine ends.
//!
//! It is the file [`FILE_NAME`] in the boot archive (a tar file), with the kernels and initrds that
//! it names. All keys:
//!
//! ```toml
//! exit = { debug-exit = 0xf4 }   # or "halt", the default
//! log = "info"
//! canaries = true                # optional, for tests: watch some frames that guests freed
//! isolate-page-tables = "auto"   # or "on", "off"
//!
//! [[domain]]
//! name = "stress"
//! kernel = "stress.elf"          # a file of the archive
//! initrd = "initrd.img"          # optional
//! cmdline = "rounds=100 seed=7"  # optional
//! memory = "64M"                 # or a number of bytes
//! vcpus = 1                      # optional
//! cache = "strict"               # optional: or "report"; mappings with conflicting memory types
//! lifetime-ms = 5000             # optional: the domain is destroyed after this time
//! container = "svm"              # optional: the kernel runs in ring 0 of an SVM guest
//! diagnose = true                # optional: the domain may request audits and frame dumps
//! dump-frames = true             # optional: log the domain's frames when it ends
//! ```

use crate::size::Size;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::start_info::MAX_GUEST_CMDLINE;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// The manifest's name in the boot archive.
pub const FILE_NAME: &str = "pinfold.toml";
/// Most domains of a manifest. They get the numbers from 1 on; 0 stands for the hypervisor.
pub const MAX_DOMAINS: usize = 64;
/// Most vCPUs of a domain: `shared_info` has as many slots (`XEN_LEGACY_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 32;
/// Longest name of a domain in bytes.
pub const MAX_NAME: usize = 32;
/// Longest file name in bytes: a tar header has room for it.
pub const MAX_FILE_NAME: usize = 100;

/// What the hypervisor does when the last domain has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// All CPUs halt.
    #[default]
    Halt,
    /// The result of the run is written to this I/O port, where QEMU's `isa-debug-exit` device ends QEMU.
    DebugExit(u16),
}

/// How much the hypervisor logs. Each level includes the ones before it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LogLevel {
    /// Errors that end something.
    Error,
    /// Violations and other problems.
    Warn,
    /// Events, such as start and end of domains.
    #[default]
    Info,
    /// Reasons for events.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// All levels, in the order of the enum.
    pub const ALL: &[LogLevel] = <LogLevel as VariantArray>::VARIANTS;

    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        self.into()
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

/// What happens when a domain maps the same memory with conflicting memory types, such as write-back
/// and uncached, which can corrupt it on real machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePolicy {
    /// The mapping is refused. The log lists the existing ones.
    #[default]
    Strict,
    /// The mapping is made. The log lists the existing ones.
    Report,
}

/// Whether a domain's kernel runs in ring 0 of a guest of the processor's virtualisation, the hardware
/// container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Container {
    /// No container: the kernel runs in ring 3.
    #[default]
    None,
    /// AMD SVM. The kernel must declare the feature `supervisor_mode_kernel`, and the CPU must have
    /// SVM; otherwise the domain is not started.
    Svm,
}

impl Container {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whether guests run on page tables without the hypervisor's memory, which they could read on a CPU
/// with Meltdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Isolation {
    /// On CPUs that need it.
    #[default]
    Auto,
    /// On all CPUs.
    On,
    /// On no CPU: guests may be able to read all memory.
    Off,
}

impl Isolation {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A boot manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What happens when the last domain has ended.
    #[serde(default)]
    pub exit: Exit,
    /// How much the hypervisor logs.
    #[serde(default)]
    pub log: LogLevel,
    /// For tests: the hypervisor keeps some of the frames that guests free, fills them with a pattern
    /// and checks that it stays.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub canaries: bool,
    /// Whether guests run on page tables without the hypervisor's memory.
    #[serde(default, rename = "isolate-page-tables")]
    pub isolate_page_tables: Isolation,
    /// The domains, in the order in which they start.
    #[serde(rename = "domain")]
    pub domains: Vec<DomainConfig>,
}

/// A domain of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Unique name, for the log: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// File name of the kernel image in the boot archive.
    pub kernel: String,
    /// File name of the initial ramdisk in the boot archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// Command line of the kernel, at most 1023 bytes.
    #[serde(default)]
    pub cmdline: String,
    /// Size of its memory, a multiple of the page size.
    pub memory: Size,
    /// Number of vCPUs.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Milliseconds after which the domain is destroyed, whatever it does.
    #[serde(default, rename = "lifetime-ms", skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u32>,
    /// Whether the domain may request audits, which stop all other CPUs, and frame dumps, which fill
    /// the log.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub diagnose: bool,
    /// Whether the log lists the domain's frames when it ends.
    #[serde(default, rename = "dump-frames", skip_serializing_if = "core::ops::Not::not")]
    pub dump_frames: bool,
    /// What happens on conflicting memory types.
    #[serde(default)]
    pub cache: CachePolicy,
    /// Whether the kernel runs in the hardware container.
    #[serde(default)]
    pub container: Container,
}

impl DomainConfig {
    /// Number of pages of its memory.
    pub const fn pages(&self) -> u64 {
        self.memory.bytes() / PAGE_SIZE
    }
}

/// The default number of vCPUs.
const fn one() -> u32 {
    1
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// It is not UTF-8.
    Encoding {
        /// Number of valid bytes before the first invalid one.
        valid_up_to: usize,
    },
    /// It is not TOML, or a field is missing, unknown or of the wrong kind.
    Syntax {
        /// Line number, from 1 on; 0: the error is not about one line.
        line: usize,
        /// Text of the line.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// The value of a field is not allowed.
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
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`]: the first problem.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let text = core::str::from_utf8(bytes)
            .map_err(|e| ManifestError::Encoding { valid_up_to: e.valid_up_to() })?;
        let manifest: Manifest = toml::from_str(text).map_err(|e| syntax_error(text, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks the rules that the types don't express.
    ///
    /// # Errors
    /// [`ManifestError::Value`]: the first field that breaks a rule.
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

    /// Writes the manifest as TOML for [`Manifest::parse`]. Checks it first, so that a bad one is
    /// refused when the boot image is built, not when it boots.
    ///
    /// # Errors
    /// As [`Manifest::check`].
    #[cfg(feature = "write")]
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        self.check()?;
        toml::to_string(self).map_err(|e| ManifestError::Syntax {
            line: 0,
            text: String::new(),
            message: e.to_string(),
        })
    }

    /// Names of the files that the archive must contain besides the manifest, each once.
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
    /// Checks the fields. The error is the first bad field and what is wrong with it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(allowed) {
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
    let allowed = |c: char| !c.is_control() && c != '\\';
    if name.is_empty() || name.len() > MAX_FILE_NAME || !name.chars().all(allowed) {
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

/// Converts an error of the TOML parser, whose own text takes several lines, to one for a single line
/// of the log.
fn syntax_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let mut message = error.message().replace('\n', "; ");
    let (mut line, mut line_text) = (0, "");
    if let Some(span) = error.span() {
        let before = text.get(..span.start.min(text.len())).unwrap_or(text);
        line = before.matches('\n').count() + 1;
        line_text = text.lines().nth(line - 1).unwrap_or("").trim();
    }
    if message.is_empty() {
        message = "not understood".to_string();
    }
    let text = line_text.chars().take(80).collect();
    ManifestError::Syntax { line, text, message }
}
