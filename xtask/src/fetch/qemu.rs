//! Finding QEMU.

use super::debian;
use anyhow::{Result, bail};

/// The program's name.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
/// Debian's package that has it.
pub(crate) const PACKAGE: &str = "qemu-system-x86";

/// Makes sure that QEMU can be started; installs it when root.
pub(crate) fn ensure() -> Result<&'static str> {
    if debian::which(PROGRAM) {
        return Ok(PROGRAM);
    }
    if debian::present() && debian::is_root() {
        debian::install(PACKAGE)?;
        if debian::which(PROGRAM) {
            return Ok(PROGRAM);
        }
    }
    bail!("QEMU is missing: install {PROGRAM} (on Debian: `apt-get install {PACKAGE}`)")
}
