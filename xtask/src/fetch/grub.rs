//! Debian's GRUB for PV guests: unpacked aside, never installed.

use super::debian;
use crate::paths;
use anyhow::Result;
use std::path::PathBuf;

/// The guest's name on the command line.
pub(crate) const NAME: &str = "grub";
/// Debian's package.
pub(crate) const PACKAGE: &str = "grub-xen-host";

/// Where its 64-bit image lies once it was fetched.
pub(crate) fn program() -> PathBuf {
    paths::tools().join(PACKAGE).join("usr/lib/grub-xen/grub-x86_64-xen.bin")
}

/// The image.
pub(crate) fn ensure() -> Result<PathBuf> {
    let program = program();
    if !program.is_file() {
        debian::unpack(PACKAGE, &paths::tools().join(PACKAGE))?;
    }
    Ok(program)
}
