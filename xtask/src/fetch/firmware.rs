//! Finding UEFI firmware (OVMF).

use super::debian;
use crate::paths;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Debian's package that has it.
pub(crate) const PACKAGE: &str = "ovmf";

/// Firmware: code that is read only, and a template of the variables that each run copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Firmware {
    /// The code, mapped read-only.
    pub(crate) code: PathBuf,
    /// The template of the variable store.
    pub(crate) vars: PathBuf,
}

/// Where distributions put the two files, the code first.
const PLACES: &[(&str, &str)] = &[
    ("usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
    ("usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

/// The firmware that is there: the system's, or what was unpacked below `ovmf/`.
pub(crate) fn find() -> Option<Firmware> {
    find_below(Path::new("/")).or_else(|| find_below(&unpacked()))
}

fn unpacked() -> PathBuf {
    paths::ovmf().join(PACKAGE)
}

fn find_below(root: &Path) -> Option<Firmware> {
    PLACES
        .iter()
        .map(|(code, vars)| Firmware { code: root.join(code), vars: root.join(vars) })
        .find(|firmware| firmware.code.is_file() && firmware.vars.is_file())
}

/// The firmware, fetched if need be.
pub(crate) fn ensure() -> Result<Firmware> {
    if let Some(firmware) = find() {
        return Ok(firmware);
    }
    debian::unpack(PACKAGE, &unpacked()).context("UEFI firmware (OVMF) is missing")?;
    find_below(&unpacked()).context("the ovmf package holds no firmware at a known place")
}
