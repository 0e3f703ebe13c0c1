//! Debian packages: downloaded and unpacked aside, or (QEMU, by root) installed.

use crate::{paths, progress};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// True if this machine has Debian's package tools.
pub(crate) fn present() -> bool {
    which("apt-get") && which("dpkg-deb")
}

/// True if a program lies in the PATH.
pub(crate) fn which(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program lies in the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The command that runs a program which must not outlive this tool, however it ends.
pub(crate) fn ending_with_us(program: &str) -> Command {
    if !which("setpriv") {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// True if this process runs as root.
pub(crate) fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "0")
}

/// Downloads a package and unpacks it below `into`, without installing anything.
pub(crate) fn unpack(package: &str, into: &Path) -> Result<()> {
    if !present() {
        bail!(
            "{package} is a Debian package, and this machine has no apt-get: unpack it to {} by hand",
            paths::shown(into)
        );
    }
    let _step = progress::Step::start(format!("Fetching the Debian package {package}"));
    let downloads = paths::tools().join("downloads").join(package);
    if downloads.exists() {
        std::fs::remove_dir_all(&downloads)?;
    }
    paths::create(&downloads)?;
    if apt(&["download", package], &downloads).is_err() {
        // The package lists may be missing or old; only root can renew them.
        if is_root() {
            apt(&["update"], &downloads)?;
        }
        apt(&["download", package], &downloads)?;
    }
    let archive = std::fs::read_dir(&downloads)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} brought no package"))?;
    // Unpacked beside and moved, so that an interrupted run leaves nothing half done.
    let fresh = downloads.join("unpacked");
    checked(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&fresh))?;
    if into.exists() {
        std::fs::remove_dir_all(into)?;
    }
    if let Some(parent) = into.parent() {
        paths::create(parent)?;
    }
    std::fs::rename(&fresh, into)
        .or_else(|_| checked(Command::new("cp").arg("-a").arg(&fresh).arg(into)))
        .with_context(|| format!("cannot move {package} to {}", into.display()))?;
    std::fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// The first package that `package` depends on and whose name begins with `prefix`.
pub(crate) fn dependency(package: &str, prefix: &str) -> Result<String> {
    if !present() || !which("apt-cache") {
        bail!("{package} is a Debian package, and this machine has no apt-get");
    }
    let look = || -> Result<Option<String>> {
        let output = Command::new("apt-cache").args(["depends", package]).output()?;
        Ok(dependency_in(&String::from_utf8_lossy(&output.stdout), prefix))
    };
    if look()?.is_none() && is_root() {
        // The package lists are missing or old; only root can renew them.
        apt(&["update"], &paths::root())?;
    }
    look()?.with_context(|| format!("apt-cache knows no {prefix}* that {package} depends on"))
}

fn dependency_in(listing: &str, prefix: &str) -> Option<String> {
    let names = listing.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// Installs a package; root only.
pub(crate) fn install(package: &str) -> Result<()> {
    let _step = progress::Step::start(format!("Installing the Debian package {package}"));
    let here = paths::root();
    let install = ["install", "--yes", "--no-install-recommends", package];
    if apt(&install, &here).is_err() {
        apt(&["update"], &here)?;
        apt(&install, &here)?;
    }
    Ok(())
}

fn apt(args: &[&str], dir: &Path) -> Result<()> {
    let mut command = Command::new("apt-get");
    checked(
        command.arg("--quiet").args(args).current_dir(dir).env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Runs a command quietly; its last words are in the error.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = words.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{name} {}: {}\n{}", args.join(" "), output.status, last.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_found_by_its_prefix() {
        let listing = "linux-image-amd64\n  Depends: other\n  Depends: linux-image-6.1-amd64\n";
        let found = dependency_in(listing, "linux-image-");
        assert_eq!(found.as_deref(), Some("linux-image-6.1-amd64"));
        assert_eq!(dependency_in("linux-image-amd64\n  Suggests: linux-image-x\n", "linux"), None);
    }
}
