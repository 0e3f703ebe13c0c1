//! Debian's Xen, the peer: unpacked aside, never installed.

use super::debian;
use crate::paths;
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::fs::File;
use std::path::PathBuf;

/// Debian 12's package.
pub(crate) const PACKAGE: &str = "xen-hypervisor-4.17-amd64";

/// Where the hypervisor lies once it was fetched.
pub(crate) fn program() -> PathBuf {
    paths::tools().join("xen-4.17-amd64")
}

/// Xen's ELF file, as QEMU's multiboot loader wants it (not compressed).
pub(crate) fn ensure() -> Result<PathBuf> {
    let program = program();
    if program.is_file() {
        return Ok(program);
    }
    let unpacked = paths::tools().join(PACKAGE);
    let packed = unpacked.join("boot/xen-4.17-amd64.gz");
    if !packed.is_file() {
        debian::unpack(PACKAGE, &unpacked)?;
    }
    let source =
        File::open(&packed).with_context(|| format!("cannot open {}", packed.display()))?;
    let fresh = program.with_extension("part");
    std::io::copy(&mut GzDecoder::new(source), &mut File::create(&fresh)?)
        .with_context(|| format!("cannot unpack {}", packed.display()))?;
    std::fs::rename(&fresh, &program)?;
    Ok(program)
}
