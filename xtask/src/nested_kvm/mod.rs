//! KVM on a machine without it: QEMU's translator emulates an AMD processor with SVM, on it runs
//! Debian's kernel with kvm-amd, and on that QEMU with a KVM guest, which is Pinfold.
//!
//! | level | runs | is |
//! |---|---|---|
//! | outer | on this machine, translated | Debian's kernel and the init script in `tests/nested-kvm` |
//! | inner | in the outer machine, under KVM | Pinfold, with the command line that it would have here under KVM |
//!
//! The inner serial line is the standard output and input of the outer QEMU, so that a run looks as any
//! other. How the inner QEMU ended, and how often Pinfold left to KVM and why, stands in
//! [`LOG`], the outer machine's console.
//!
//! The inner machine starts without UEFI firmware: with OVMF the outer QEMU (7.2 and 10.0) stops with
//! an assertion in `tcg_handle_interrupt`, because OVMF's interrupt handlers write CR8. See
//! `docs/tests.md`.
//!
//! | file | about |
//! |---|---|
//! | `root` | the outer machine's first root |
//! | `result` | reading its console |

mod result;
mod root;

use crate::fetch::{self, debian};
use crate::machine::Ended;
use crate::{cargo, image, linux, paths, progress};
use anyhow::{Context, Result};
pub(crate) use result::Exits;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The outer machine's console, in the folder of the run.
pub(crate) const LOG: &str = "outer.log";

/// The outer processor: AMD's with nested paging, less what the translator lacks and would warn of,
/// and less SMAP, with which it faults `iretq` in ring 3.
const CPU: &str = "EPYC,+svm,+npt,-smap,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,\
    -topoext,-nrip-save,-xsavec";
/// Memory of the outer machine beside the inner one's, in MiB: Debian's kernel, the first root twice
/// (packed and unpacked), QEMU.
const MEMORY_BESIDE: u64 = 1536;

/// Where the loader and the payload lie in the outer machine.
pub(crate) const LOADER: &str = "/loader";
/// Where the loader and the payload lie in the outer machine.
pub(crate) const PAYLOAD: &str = "/payload";

/// Where the part of the first root lies that is the same for all runs.
fn made() -> PathBuf {
    paths::target().join("nested-kvm").join("root.cpio")
}

/// Gets what the outer machine is made of. To be called before [`outer`].
pub(crate) fn prepare() -> Result<()> {
    let program = debian::find(fetch::qemu::ensure()?).context("QEMU is not in the PATH")?;
    let kernel = fetch::linux::kernel()?;
    let busybox = fetch::linux::busybox()?;
    let _step = progress::Step::start("Making the outer machine's root");
    let bytes = root::build(&program, &kernel, &busybox)?;
    let file = made();
    paths::create(file.parent().expect("it has a folder"))?;
    // Moved into its place, so that a run beside this one never sees half of it.
    let fresh = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, &file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The outer machine for an inner QEMU with these arguments, which has so many MiB of memory.
/// `payload` is the file that the arguments name [`PAYLOAD`].
pub(crate) fn outer(
    inner: &[String],
    inner_mib: u64,
    payload: &Path,
    dir: &Path,
) -> Result<Command> {
    let root = dir.join("outer.cpio");
    std::fs::copy(made(), &root).context("the outer machine's root was not made")?;
    // Linux unpacks archives that follow each other one after the other.
    let own = root::build_for_run(inner, &cargo::built(image::LOADER), payload)?;
    OpenOptions::new()
        .append(true)
        .open(&root)
        .and_then(|mut file| file.write_all(&own))
        .with_context(|| format!("cannot write {}", root.display()))?;

    let mut qemu = debian::ending_with_us(fetch::qemu::ensure()?);
    qemu.args(["-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-monitor", "none", "-vga", "none", "-accel", "tcg"]);
    qemu.args(["-cpu", CPU, "-m", &(inner_mib + MEMORY_BESIDE).to_string()]);
    qemu.arg("-kernel").arg(linux::kernel()?).arg("-initrd").arg(&root);
    // What guards a kernel from its own guests costs time here.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    qemu.arg("-serial").arg(format!("file:{}", dir.join(LOG).display()));
    qemu.args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=inner,signal=off"]);
    qemu.args(["-device", "virtserialport,chardev=inner,name=inner"]);
    Ok(qemu)
}

/// How the inner QEMU ended, from how the outer one did.
pub(crate) fn inner_end(outer: Ended, dir: &Path) -> Ended {
    let Ended::Exited(status, errors) = outer else { return outer };
    let console = std::fs::read(dir.join(LOG)).unwrap_or_default();
    match result::inner_end(&String::from_utf8_lossy(&console)) {
        Some(ended) => ended,
        None => Ended::Exited(status, format!("the outer machine failed: {}", errors.trim())),
    }
}

/// How often and why the inner machine left to KVM; `None` if the run ended before it was counted.
pub(crate) fn exits(dir: &Path) -> Option<Exits> {
    let console = std::fs::read(dir.join(LOG)).ok()?;
    Exits::read(&String::from_utf8_lossy(&console))
}
