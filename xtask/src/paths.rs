//! Where things are: the source tree, and the few folders that the tool may write to.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the tree").to_path_buf()
}

/// Cargo's target folder: `CARGO_TARGET_DIR` where it is set, else `target`.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Things fetched once and kept: Debian packages, the bootloader.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// Where firmware is unpacked when the system has none.
pub(crate) fn ovmf() -> PathBuf {
    root().join("ovmf")
}

/// A fresh, empty folder for one run: its disk, firmware variables and serial log.
pub(crate) fn run_dir(name: &str) -> Result<PathBuf> {
    let dir = target().join("runs").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    create(&dir)?;
    Ok(dir)
}

/// Makes a folder and those above it.
pub(crate) fn create(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// A path as shown to people: relative to the tree where it lies in it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
