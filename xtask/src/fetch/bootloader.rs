//! Building the UEFI bootloader, once.
//!
//! It is the rust-osdev bootloader's UEFI program. Version 0.11.15 is the last one that builds on
//! stable Rust (with `RUSTC_BOOTSTRAP`, for the features it names itself); the hypervisor's
//! `bootloader_api` is pinned to the same version, the two must match.

use super::debian::checked;
use crate::{cargo, paths, progress};
use anyhow::{Context, Result};
use std::path::PathBuf;

const CRATE: &str = "bootloader-x86_64-uefi";
const VERSION: &str = "0.11.15";

/// Where the built program lies.
pub(crate) fn program() -> PathBuf {
    paths::tools().join(format!("bootloader-{VERSION}")).join("bin").join(format!("{CRATE}.efi"))
}

/// The bootloader, built if need be.
pub(crate) fn ensure() -> Result<PathBuf> {
    let program = program();
    if program.is_file() {
        return Ok(program);
    }
    cargo::ensure_target(cargo::UEFI)?;
    let _step =
        progress::Step::start(format!("Building the UEFI bootloader {VERSION} (about 20 s, once)"));
    let root = paths::tools().join(format!("bootloader-{VERSION}"));
    let mut command = cargo::command();
    command
        .args(["install", CRATE, "--version", VERSION, "--locked", "--target", cargo::UEFI])
        .arg("--root")
        .arg(&root)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", paths::tools().join("bootloader-build"))
        // The tree's own settings are not meant for it.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(paths::root());
    checked(&mut command).context("cannot build the UEFI bootloader")?;
    Ok(program)
}
