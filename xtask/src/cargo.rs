//! Building the bare-metal crates with cargo, and getting the target they need.

use crate::{paths, progress};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The target of the hypervisor and of the guest kernels.
pub(crate) const BARE_METAL: &str = "x86_64-unknown-none";
/// The target of programs for the Linux guest: linked statically.
pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";
/// The target of the bootloader.
pub(crate) const UEFI: &str = "x86_64-unknown-uefi";

/// A cargo command, run from the root of the tree with the toolchain that runs this tool.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    forget_package(&mut command);
    command
}

/// A cargo command of rustup's nightly toolchain, if there is one.
pub(crate) fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(paths::root());
    forget_package(&mut command);
    for key in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(key);
    }
    command
}

/// Removes what cargo set for this tool's own package: it must not reach a nested cargo.
fn forget_package(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&key);
        }
    }
}

/// True if the target's standard library is there.
pub(crate) fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(paths::root())
        .output()
    else {
        return false;
    };
    let libdir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success()
        && std::fs::read_dir(libdir).is_ok_and(|mut files| files.next().is_some())
}

/// Adds a rustup target unless it is there.
pub(crate) fn ensure_target(target: &str) -> Result<()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock();
    if has_target(target) {
        return Ok(());
    }
    let _step = progress::Step::start(format!("Adding the Rust target {target}"));
    let output = Command::new("rustup")
        .args(["target", "add", target])
        .current_dir(paths::root())
        .output()
        .with_context(|| {
            format!("the Rust target {target} is missing, and there is no rustup to add it")
        })?;
    if !output.status.success() {
        bail!("rustup target add {target}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Builds bare-metal packages in release mode; cargo's own words go to the terminal.
pub(crate) fn build(packages: &[&str]) -> Result<()> {
    build_for(BARE_METAL, packages)
}

/// Builds packages in release mode for a target.
pub(crate) fn build_for(target: &str, packages: &[&str]) -> Result<()> {
    ensure_target(target)?;
    progress::note(format!("Building {}", packages.join(", ")));
    let mut command = command();
    command.args(["build", "--release", "--target", target]);
    for package in packages {
        command.args(["-p", package]);
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the build of {} failed", packages.join(", "));
    }
    Ok(())
}

/// Where a bare-metal package's executable lies after [`build`].
pub(crate) fn built(package: &str) -> PathBuf {
    built_for(BARE_METAL, package)
}

/// Where a package's executable lies after [`build_for`].
pub(crate) fn built_for(target: &str, package: &str) -> PathBuf {
    paths::target().join(target).join("release").join(package)
}
