//! Debian's Linux kernel and what its first root is made of: unpacked aside, never installed.

use super::debian;
use crate::paths;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Debian's package that depends on the current kernel's.
pub(crate) const PACKAGE: &str = "linux-image-amd64";

/// Unpacked packages of the first root.
#[derive(Clone, Debug)]
pub(crate) struct Userland {
    /// busybox, linked statically.
    pub(crate) busybox: PathBuf,
    /// mkfs.xfs and xfs_repair.
    pub(crate) xfsprogs: PathBuf,
    /// The C library.
    pub(crate) libc: PathBuf,
    /// What xfsprogs is linked with: where it is unpacked, and the file that the loader wants.
    pub(crate) libraries: Vec<(PathBuf, &'static str)>,
}

/// Packages and file names of the libraries of mkfs.xfs and xfs_repair.
const LIBRARIES: &[(&str, &str)] = &[
    ("libc6", "libc.so.6"),
    ("libblkid1", "libblkid.so.1"),
    ("libinih1", "libinih.so.1"),
    ("liburcu8", "liburcu.so.8"),
    ("libuuid1", "libuuid.so.1"),
];

fn folder() -> PathBuf {
    paths::tools().join("linux")
}

/// The unpacked kernel, if it was fetched.
pub(crate) fn found() -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder()).ok()?;
    let is_kernel = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("linux-image-"))
    };
    // Several, after an update: the last by name.
    entries.flatten().map(|entry| entry.path()).filter(is_kernel).max()
}

/// The folder that the kernel's package is unpacked in: `boot/vmlinuz-*` and `lib/modules/*`.
pub(crate) fn kernel() -> Result<PathBuf> {
    if let Some(found) = found() {
        return Ok(found);
    }
    let wanted = debian::dependency(PACKAGE, "linux-image-").context("Linux cannot be had")?;
    unpacked(&wanted)
}

/// The packages of the first root.
pub(crate) fn userland() -> Result<Userland> {
    Ok(Userland {
        busybox: busybox()?,
        xfsprogs: unpacked("xfsprogs")?,
        libc: unpacked("libc6")?,
        libraries: LIBRARIES
            .iter()
            .map(|(package, name)| Ok((unpacked(package)?, *name)))
            .collect::<Result<_>>()?,
    })
}

/// busybox, linked statically.
pub(crate) fn busybox() -> Result<PathBuf> {
    unpacked("busybox-static")
}

/// Fetches everything that the guest is made of.
pub(crate) fn ensure() -> Result<()> {
    kernel()?;
    userland().map(drop)
}

fn unpacked(package: &str) -> Result<PathBuf> {
    let into = folder().join(package);
    if !into.is_dir() {
        debian::unpack(package, &into).with_context(|| format!("Linux needs {package}"))?;
    }
    Ok(into)
}
