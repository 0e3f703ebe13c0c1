//! The outer machine's first root: busybox, KVM's modules, QEMU with its libraries and firmware; and,
//! for each run, the loader, the payload and the inner QEMU's command line.

use crate::linux::cpio::Archive;
use crate::linux::modules::Modules;
use crate::paths;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// KVM for AMD's processors, and the console port for the inner serial line.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "kvm_amd"];
/// QEMU's own files that the inner machine needs: the BIOS, its parts that start a PVH kernel and that
/// replace writes of the task priority.
const FIRMWARE: &[&str] = &["bios-256k.bin", "pvh.bin", "kvmvapic.bin"];

/// Builds what is the same for all runs. `program` is QEMU; the others are unpacked packages.
pub(super) fn build(program: &Path, kernel: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "firmware", "lib64", "libraries", "modules"] {
        archive.folder(folder);
    }
    // The kernel opens it for the first process, before anything is mounted on /dev.
    archive.device("dev/console", 5, 1);
    archive.file("bin/busybox", true, &read(&busybox.join("bin/busybox"))?);
    archive.file("init", true, &read(&paths::root().join("tests/nested-kvm/init"))?);

    archive.file("qemu", true, &read(program)?);
    let needs = output(Command::new("ldd").arg(program))?;
    let needs = libraries(&needs);
    if needs.is_empty() {
        bail!("ldd names no libraries of {}", program.display());
    }
    for library in needs {
        let name = library.file_name().and_then(OsStr::to_str).context("a library's name")?;
        // The dynamic loader stands in the program by its path.
        let folder = if name.starts_with("ld-linux") { "lib64" } else { "libraries" };
        archive.file(&format!("{folder}/{name}"), true, &read(&library)?);
    }
    let folders = output(Command::new(program).args(["-L", "help"]))?;
    for name in FIRMWARE {
        let found =
            folders.lines().map(|folder| Path::new(folder).join(name)).find(|f| f.is_file());
        let found = found.with_context(|| format!("QEMU has no {name}"))?;
        archive.file(&format!("firmware/{name}"), false, &read(&found)?);
    }

    let mut order = String::new();
    for module in Modules::below(&kernel.join("lib/modules"))?.with_needs(MODULES)? {
        archive.file(&format!("modules/{}.ko", module.name), false, &module.bytes);
        order += &format!("{}\n", module.name);
    }
    archive.file("modules/order", false, order.as_bytes());
    Ok(archive.finish())
}

/// Builds what is of one run.
pub(super) fn build_for_run(inner: &[String], loader: &Path, payload: &Path) -> Result<Vec<u8>> {
    let mut script = String::from("LD_LIBRARY_PATH=/libraries exec /qemu -L /firmware");
    for argument in inner {
        script += &format!(" '{}'", argument.replace('\'', r"'\''"));
    }
    script += "\n";
    let mut archive = Archive::default();
    archive.file("run-inner", true, script.as_bytes());
    archive.file(super::LOADER.trim_start_matches('/'), false, &read(loader)?);
    archive.file(super::PAYLOAD.trim_start_matches('/'), false, &read(payload)?);
    Ok(archive.finish())
}

/// The files in what `ldd` prints: `NAME => PATH (ADDRESS)`, and the dynamic loader without a name.
fn libraries(listing: &str) -> Vec<PathBuf> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_listing() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f0)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1)\n";
        let expected = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(listing), expected.map(PathBuf::from));
        assert!(libraries("\tnot a dynamic executable\n").is_empty());
    }
}
