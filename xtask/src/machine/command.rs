//! QEMU's command line for each of the two hypervisors.

use crate::accel::Accel;
use crate::fetch::{self, debian};
use crate::guests::Guest;
use crate::ramdisk::EXIT_PORT;
use crate::{cargo, image, nested_kvm};
use anyhow::{Context, Result, bail};
use pinfold_image::size::Size;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

/// How Pinfold is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// By UEFI firmware, from a disk, as on a real machine.
    Firmware,
    /// By QEMU and Pinfold's own loader.
    Direct,
}

/// What the machine has.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) smp: u16,
    /// Memory.
    pub(crate) mem: Size,
    /// How QEMU runs them.
    pub(crate) accel: Accel,
    /// One nanosecond an instruction.
    pub(crate) icount: bool,
    /// Wait for gdb on port 1234.
    pub(crate) gdb: bool,
    /// Give the machine a screen, without which the bootloader keeps silent.
    pub(crate) screen: bool,
    /// QEMU's name of the processor with its features, in place of the usual one.
    pub(crate) cpu: Option<String>,
    /// How Pinfold is started.
    pub(crate) start: Start,
    /// Bytes a second that the serial line takes; as many as come, if not given.
    pub(crate) serial_rate: Option<NonZeroU32>,
    /// Whether Pinfold can write its log by a virtio serial device, in place of the serial line.
    pub(crate) virtio_console: bool,
}

impl Machine {
    /// A machine with one processor and nothing special.
    pub(crate) fn new(mem: Size, accel: Accel) -> Machine {
        Machine {
            smp: 1,
            mem,
            accel,
            icount: false,
            gdb: false,
            screen: false,
            cpu: None,
            start: Start::Firmware,
            serial_rate: None,
            virtio_console: false,
        }
    }
}

impl Machine {
    /// How Pinfold is started: firmware can't start it under nested KVM.
    pub(crate) fn start(&self) -> Start {
        if self.accel == Accel::NestedKvm { Start::Direct } else { self.start }
    }
}

/// QEMU for Pinfold: UEFI firmware starts the disk.
pub(crate) fn pinfold(machine: &Machine, disk: &Path, dir: &Path) -> Result<Command> {
    let firmware = fetch::firmware::ensure()?;
    let vars = dir.join("vars.fd");
    std::fs::copy(&firmware.vars, &vars).context("cannot copy the firmware's variables")?;
    let mut qemu = common(machine)?;
    qemu.args([
        "-drive",
        &format!("if=pflash,format=raw,readonly=on,file={}", text(&firmware.code)?),
    ]);
    qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", text(&vars)?)]);
    qemu.args(["-drive", &format!("format=raw,file={}", text(disk)?)]);
    qemu.args(devices(machine));
    Ok(qemu)
}

/// QEMU's arguments for the devices that Pinfold uses besides the serial line.
fn devices(machine: &Machine) -> Vec<String> {
    let exit = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4");
    let mut arguments = vec!["-device", &exit];
    if machine.virtio_console {
        // Its bytes go where the serial line's go, and after them: both write to the same pipe.
        arguments.extend(["-chardev", "file,id=log,path=/proc/self/fd/1,append=on", "-device"]);
        arguments.push("virtio-serial-pci,disable-legacy=off,disable-modern=on,max_ports=2");
        // QEMU's `virtconsole` loses what can't be written at once.
        arguments.extend(["-device", "virtserialport,nr=1,name=pinfold.log,chardev=log"]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// QEMU for Pinfold without UEFI firmware: QEMU gives the payload to the loader. `dir` is the folder of
/// the run.
pub(crate) fn pinfold_direct(machine: &Machine, payload: &Path, dir: &Path) -> Result<Command> {
    let start = |loader: &Path, payload: &Path| -> Result<Vec<String>> {
        let files = [loader, payload].map(|file| file.to_str().map(str::to_owned));
        let [Some(loader), Some(payload)] = files else { bail!("a path is not text") };
        let start = ["-kernel".into(), loader, "-initrd".into(), payload];
        Ok(arguments(machine).into_iter().chain(start).chain(devices(machine)).collect())
    };
    if machine.accel == Accel::NestedKvm {
        let inner = start(Path::new(nested_kvm::LOADER), Path::new(nested_kvm::PAYLOAD))?;
        return nested_kvm::outer(&inner, machine.mem.bytes() >> 20, payload, dir);
    }
    let mut qemu = debian::ending_with_us(fetch::qemu::ensure()?);
    qemu.args(start(&cargo::built(image::LOADER), payload)?);
    Ok(qemu)
}

/// QEMU for Xen: the guest is Xen's first domain.
pub(crate) fn xen(machine: &Machine, guest: &Guest) -> Result<Command> {
    let program = fetch::xen::ensure()?;
    // A comma ends a module's command line for QEMU; two stand for one.
    let mut modules = format!("{} {}", text(&guest.kernel)?, guest.cmdline.replace(',', ",,"));
    if let Some(initrd) = &guest.initrd {
        modules += &format!(",{}", text(initrd)?);
    }
    // noreboot: a crash must stop the machine, not begin it anew.
    // sched=credit: the newer scheduler of 4.17 was seen, with more virtual processors than
    // processors, to let one wait for ever while a processor was idle.
    let options = format!(
        "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all noreboot sched=credit \
         dom0_mem={0},max:{0} dom0_max_vcpus={1}",
        guest.memory, guest.vcpus
    );
    let mut qemu = common(machine)?;
    qemu.arg("-kernel").arg(program).args(["-initrd", &modules, "-append", &options]);
    Ok(qemu)
}

fn common(machine: &Machine) -> Result<Command> {
    let mut qemu = debian::ending_with_us(fetch::qemu::ensure()?);
    qemu.args(arguments(machine));
    Ok(qemu)
}

/// QEMU's arguments for a machine that nothing is started on yet.
fn arguments(machine: &Machine) -> Vec<String> {
    let usual = match machine.accel {
        // With `migratable=off` the processor's TSC is said to be invariant, if it is, and KVM says its
        // frequency. Asynchronous page faults, which nobody here uses, need KVM's interrupt controller.
        Accel::Kvm | Accel::NestedKvm => "host,migratable=off,kvm-asyncpf-int=off",
        // QEMU's translator (7.2) gets SMAP wrong twice. It faults Xen's own guarded accesses to
        // guest memory, and it faults `iretq` in ring 3, which reads its frame as if it were
        // the kernel: a PV guest's kernel is in ring 3, and Linux returns with it.
        // `max` has SVM, for the hardware container.
        Accel::Tcg => "max,-smap",
    };
    let cpu = machine.cpu.as_deref().unwrap_or(usual);
    let mem = format!("{}k", machine.mem.bytes() / 1024);
    let smp = machine.smp.to_string();
    let accel = if machine.accel == Accel::Tcg { "tcg" } else { "kvm" };
    let mut arguments = vec!["-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot"];
    arguments.extend(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    arguments.extend(["-vga", if machine.screen { "std" } else { "none" }]);
    arguments.extend(["-cpu", cpu, "-smp", &smp, "-m", &mem, "-accel", accel]);
    if machine.icount {
        // An idle machine jumps to its next timer instead of sleeping: nothing depends on the host.
        arguments.extend(["-icount", "shift=0,sleep=off"]);
    }
    if machine.gdb {
        arguments.extend(["-gdb", "tcp:127.0.0.1:1234", "-S"]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// A path in one of QEMU's comma-separated options.
fn text(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    match path.to_str() {
        Some(text) if !text.contains(char::is_whitespace) => Ok(text.replace(',', ",,")),
        _ => bail!("QEMU cannot take this path: {}", path.display()),
    }
}
