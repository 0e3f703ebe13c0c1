//! The first root of the Linux guest: busybox, the modules and the programs of the test.

use super::cpio::Archive;
use super::modules::Modules;
use crate::fetch;
use crate::{cargo, paths};
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the test loads: XFS, a disk in memory for it, and the checksum that XFS asks the kernel's
/// crypto layer for by an alias.
const MODULES: &[&str] = &["crc32c_generic", "xfs", "brd"];
/// Programs of xfsprogs.
const PROGRAMS: &[&str] = &["sbin/mkfs.xfs", "sbin/xfs_repair"];
/// The folder of Debian's libraries on this architecture.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
/// The dynamic loader, where every program looks for it.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
/// The test program: the package in `tests/linux`.
const SELFTEST: &str = "linux-selftest";

/// Builds it. `kernel` is the unpacked kernel package.
pub(super) fn build(kernel: &Path, debian: &fetch::linux::Userland) -> Result<Vec<u8>> {
    cargo::build_for(cargo::MUSL, &[SELFTEST])?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "lib", LIBRARIES, "lib64", "lib/modules", "mnt"] {
        archive.folder(folder);
    }
    for folder in ["proc", "root", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    // The kernel opens it for the first process, before anything is mounted on /dev.
    archive.device("dev/console", 5, 1);
    let busybox = read(&debian.busybox.join("bin/busybox"))?;
    archive.file("bin/busybox", true, &busybox);
    archive.link("bin/sh", "busybox");
    for program in PROGRAMS {
        let name = program.rsplit('/').next().unwrap_or(program);
        archive.file(&format!("bin/{name}"), true, &read(&debian.xfsprogs.join(program))?);
    }
    archive.file(
        &format!("bin/{SELFTEST}"),
        true,
        &read(&cargo::built_for(cargo::MUSL, SELFTEST))?,
    );
    for (package, name) in &debian.libraries {
        archive.file(&format!("{LIBRARIES}/{name}"), true, &library(package, name)?);
    }
    archive.file(LOADER, true, &library(&debian.libc, "ld-linux-x86-64.so.2")?);
    let mut order = String::new();
    for module in Modules::below(&kernel.join("lib/modules"))?.with_needs(MODULES)? {
        archive.file(&format!("lib/modules/{}.ko", module.name), false, &module.bytes);
        order += &format!("{}\n", module.name);
    }
    archive.file("lib/modules/order", false, order.as_bytes());
    own_files(&mut archive)?;
    Ok(archive.finish())
}

/// Everything in `tests/linux/rootfs`, with its permissions.
fn own_files(archive: &mut Archive) -> Result<()> {
    let folder = paths::root().join("tests/linux/rootfs");
    let mut names: Vec<_> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let executable = std::fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
        let name = name.to_str().context("a file name in tests/linux/rootfs is not text")?;
        archive.file(name, executable, &read(&path)?);
    }
    Ok(())
}

/// A shared library: Debian puts it below `lib` or `usr/lib`, by the package.
fn library(package: &Path, name: &str) -> Result<Vec<u8>> {
    let places = [package.join(LIBRARIES), package.join("usr").join(LIBRARIES)];
    let found = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    read(&found.with_context(|| format!("{} has no {name}", paths::shown(package)))?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
