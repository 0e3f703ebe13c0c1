//! From what the command line says about guests to what a run needs.

use crate::cargo;
use crate::cli::GuestArgs;
use crate::paths;
use anyhow::{Context, Result, bail};
use pinfold_image::size::Size;
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
        }
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

/// Which package a guest is, if it is one of ours. A name with a slash is always a path.
fn package(guest: &str) -> Result<Option<String>> {
    let known = known();
    if known.iter().any(|name| name == guest) {
        return Ok(Some(guest.into()));
    }
    if Path::new(guest).is_file() {
        return Ok(None);
    }
    bail!("`{guest}` is neither a guest in tests/guests ({}) nor a file", known.join(", "))
}

/// Builds what must be built and settles every guest's particulars.
pub(crate) fn resolve(args: &GuestArgs, also_build: &[&str]) -> Result<Vec<Guest>> {
    let packages: Vec<Option<String>> =
        args.guests.iter().map(|guest| package(guest)).collect::<Result<_>>()?;
    let ours: BTreeSet<&str> =
        packages.iter().flatten().map(String::as_str).chain(also_build.iter().copied()).collect();
    if !ours.is_empty() {
        cargo::build(&ours.into_iter().collect::<Vec<_>>())?;
    }
    let count = args.guests.len();
    let mut guests: Vec<Guest> = Vec::new();
    for (index, (word, package)) in args.guests.iter().zip(&packages).enumerate() {
        let kernel = match package {
            Some(package) => cargo::built(package),
            None => PathBuf::from(word),
        };
        let initrd = pick(&args.initrd, index, count, "--initrd")?.cloned();
        if let Some(file) = &initrd {
            std::fs::metadata(file).with_context(|| format!("--initrd {}", file.display()))?;
        }
        guests.push(Guest {
            name: unique_name(word, &guests),
            kernel,
            initrd,
            cmdline: pick(&args.cmdline, index, count, "--cmdline")?.cloned().unwrap_or_default(),
            vcpus: pick(&args.vcpus, index, count, "--vcpus")?.copied().unwrap_or(1),
            memory: pick(&args.guest_mem, index, count, "--guest-mem")?
                .copied()
                .unwrap_or(DEFAULT_MEMORY),
        });
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
