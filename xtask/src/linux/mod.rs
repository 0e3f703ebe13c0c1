//! The guest `linux`: Debian's own kernel, unchanged, with a small root of busybox and the test.
//!
//! | file | about |
//! |---|---|
//! | `bzimage` | finding the ELF kernel in Linux's boot image |
//! | `strip_elf` | leaving out of it what a loader does not need |
//! | `modules` | which modules a module needs |
//! | `cpio` | the format of the first root |
//! | `initramfs` | what is in it |
//!
//! What the guest does with it all is in `tests/linux`.

pub(crate) mod bzimage;
pub(crate) mod cpio;
mod initramfs;
pub(crate) mod modules;
mod strip_elf;

use crate::{fetch, paths, progress};
use anyhow::{Context, Result};
use pinfold_image::size::Size;
use std::path::{Path, PathBuf};

/// The guest's name on the command line.
pub(crate) const NAME: &str = "linux";
/// Its memory unless it is said. The test's file system alone may take 320M of it.
pub(crate) const MEMORY: Size = Size(512 << 20);

/// The word on its command line that starts the test instead of a shell.
pub(crate) const TEST: &str = "pinfold.test";

/// The kernel as Debian ships it.
pub(crate) fn kernel() -> Result<PathBuf> {
    let package = fetch::linux::kernel()?;
    let boot = package.join("boot");
    let image = std::fs::read_dir(&boot)
        .with_context(|| format!("cannot read {}", boot.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| name_of(path).starts_with("vmlinuz-"));
    image.with_context(|| format!("no kernel in {}", paths::shown(&boot)))
}

/// The first root, made anew: its scripts and the test's program may have changed.
pub(crate) fn initramfs() -> Result<PathBuf> {
    let kernel = fetch::linux::kernel()?;
    let userland = fetch::linux::userland()?;
    let _step = progress::Step::start("Making Linux's first root");
    let bytes = initramfs::build(&kernel, &userland)?;
    let file = made();
    paths::create(file.parent().expect("it has a folder"))?;
    // Moved into its place, so that a run beside this one never sees half of it.
    let fresh = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Where [`initramfs()`] puts it.
pub(crate) fn made() -> PathBuf {
    paths::target().join("linux").join("initramfs.cpio")
}

/// Its whole command line: the console first, so that what is added can override it.
pub(crate) fn command_line(added: &str) -> String {
    format!("console=hvc0 {added}").trim_end().to_owned()
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
