//! From what the command line says about guests to what a run needs.

use crate::cargo;
use crate::cli::GuestArgs;
use crate::fetch::grub;
use crate::{linux, paths};
use anyhow::{Context, Result, bail};
use pinfold_image::size::Size;
use pinfold_image::{CachePolicy, Container};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Memory of a guest unless it is said.
pub(crate) const DEFAULT_MEMORY: Size = Size(64 << 20);

/// A guest, ready to be put on a disk or started on Xen.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Its name, unique in the run.
    pub(crate) name: String,
    /// Its kernel image.
    pub(crate) kernel: PathBuf,
    /// Its initial ramdisk.
    pub(crate) initrd: Option<PathBuf>,
    /// Its command line.
    pub(crate) cmdline: String,
    /// Its virtual processors.
    pub(crate) vcpus: u32,
    /// Its memory.
    pub(crate) memory: Size,
    /// Milliseconds after which Pinfold destroys it.
    pub(crate) lifetime_ms: Option<u32>,
    /// Whether it may ask for audits and frame dumps: whoever runs a guest with this tool wants to
    /// know about it.
    pub(crate) diagnose: bool,
    /// Whether Pinfold logs what its frames are when it ends.
    pub(crate) dump_frames: bool,
    /// What mixing memory types leads to on Pinfold.
    pub(crate) cache: CachePolicy,
    /// Whether its kernel runs in ring 0 of a guest of the processor's virtualisation.
    pub(crate) container: Container,
}

impl Guest {
    /// A guest with the default settings.
    pub(crate) fn new(name: &str, kernel: PathBuf) -> Guest {
        Guest {
            name: name.into(),
            kernel,
            initrd: None,
            cmdline: String::new(),
            vcpus: 1,
            memory: DEFAULT_MEMORY,
            lifetime_ms: None,
            diagnose: true,
            dump_frames: false,
            cache: CachePolicy::Strict,
            container: Container::None,
        }
    }

    /// Debian's Linux. Its first root is made unless another one is given.
    pub(crate) fn linux(name: &str, initrd: Option<PathBuf>) -> Result<Guest> {
        let initrd = initrd.map_or_else(linux::initramfs, Ok)?;
        Ok(Guest {
            initrd: Some(initrd),
            cmdline: linux::command_line(""),
            memory: linux::MEMORY,
            ..Guest::new(name, linux::kernel()?)
        })
    }
}

/// The names of the guests in `tests/guests`.
pub(crate) fn known() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(paths::root().join("tests/guests"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Where a guest's kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A package in tests/guests.
    Ours(String),
    /// Debian's kernel.
    Linux,
    /// Debian's GRUB.
    Grub,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// What a word on the command line means. A word with a slash is always a path.
    fn of(guest: &str) -> Result<Source> {
        let known = known();
        if known.iter().any(|name| name == guest) {
            return Ok(Source::Ours(guest.into()));
        }
        if guest == linux::NAME {
            return Ok(Source::Linux);
        }
        if guest == grub::NAME {
            return Ok(Source::Grub);
        }
        if Path::new(guest).is_file() {
            return Ok(Source::File(guest.into()));
        }
        bail!(
            "`{guest}` is neither a guest in tests/guests ({}), nor `{}` or `{}`, nor a file",
            known.join(", "),
            linux::NAME,
            grub::NAME
        )
    }
}

/// Builds what must be built and settles every guest's particulars.
pub(crate) fn resolve(args: &GuestArgs, also_build: &[&str]) -> Result<Vec<Guest>> {
    let sources: Vec<Source> =
        args.guests.iter().map(|guest| Source::of(guest)).collect::<Result<_>>()?;
    let packages = sources.iter().filter_map(|source| match source {
        Source::Ours(package) => Some(package.as_str()),
        Source::Linux | Source::Grub | Source::File(_) => None,
    });
    let ours: BTreeSet<&str> = packages.chain(also_build.iter().copied()).collect();
    if !ours.is_empty() {
        cargo::build(&ours.into_iter().collect::<Vec<_>>())?;
    }
    let count = args.guests.len();
    let mut guests: Vec<Guest> = Vec::new();
    for (index, (word, source)) in args.guests.iter().zip(&sources).enumerate() {
        let name = unique_name(word, &guests);
        let initrd = pick(&args.initrd, index, count, "--initrd")?.cloned();
        if let Some(file) = &initrd {
            std::fs::metadata(file).with_context(|| format!("--initrd {}", file.display()))?;
        }
        let mut guest = match source {
            Source::Ours(package) => Guest::new(&name, cargo::built(package)),
            Source::Linux => Guest::linux(&name, initrd.clone())?,
            Source::Grub => Guest::new(&name, grub::ensure()?),
            Source::File(file) => Guest::new(&name, file.clone()),
        };
        guest.initrd = initrd.or(guest.initrd);
        if let Some(words) = pick(&args.cmdline, index, count, "--cmdline")? {
            guest.cmdline = match source {
                Source::Linux => linux::command_line(words),
                Source::Ours(_) | Source::Grub | Source::File(_) => words.clone(),
            };
        }
        if let Some(vcpus) = pick(&args.vcpus, index, count, "--vcpus")? {
            guest.vcpus = *vcpus;
        }
        if let Some(cache) = pick(&args.cache, index, count, "--cache")? {
            guest.cache = (*cache).into();
        }
        if let Some(container) = pick(&args.container, index, count, "--container")? {
            guest.container = (*container).into();
        }
        if let Some(memory) = pick(&args.guest_mem, index, count, "--guest-mem")? {
            guest.memory = *memory;
        }
        guests.push(guest);
    }
    Ok(guests)
}

/// The value for the guest at `index`: none given, one for all, or one for each.
fn pick<'a, T>(values: &'a [T], index: usize, count: usize, option: &str) -> Result<Option<&'a T>> {
    match values.len() {
        0 | 1 => Ok(values.first()),
        given if given == count => Ok(values.get(index)),
        given => {
            bail!("{option} is given {given} times for {count} guests: once for all, or once each")
        }
    }
}

/// A name for a guest that none before it has: the file's stem, numbered when it comes again.
fn unique_name(word: &str, before: &[Guest]) -> String {
    let stem = Path::new(word).file_stem().and_then(|stem| stem.to_str()).unwrap_or("guest");
    let stem: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    let taken = |name: &str| before.iter().any(|guest| guest.name == name);
    if !taken(&stem) {
        return stem;
    }
    (2..).map(|n| format!("{stem}-{n}")).find(|name| !taken(name)).expect("numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        let mut guests = Vec::new();
        for (word, name) in [
            ("hello", "hello"),
            ("/boot/hello", "hello-2"),
            ("hello.elf", "hello-3"),
            ("my guest", "my_guest"),
        ] {
            assert_eq!(unique_name(word, &guests), name);
            guests.push(Guest::new(name, PathBuf::new()));
        }
    }

    #[test]
    fn options_are_for_all_or_for_each() {
        assert_eq!(pick::<u8>(&[], 1, 2, "--x").unwrap(), None);
        assert_eq!(pick(&[7], 1, 2, "--x").unwrap(), Some(&7));
        assert_eq!(pick(&[7, 8], 1, 2, "--x").unwrap(), Some(&8));
        assert!(pick(&[7, 8], 0, 3, "--x").is_err());
    }
}
