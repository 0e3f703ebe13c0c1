//! `doctor`: what this machine has, what it lacks, and how to get it.

use crate::cli::AccelChoice;
use crate::exit::Exit;
use crate::fetch::{bootloader, chromium, debian, firmware, grub, linux, qemu, xen};
use crate::{accel, cargo, paths};
use anyhow::Result;

/// How much a missing thing matters.
enum Found {
    /// It is there; where, or which.
    Yes(String),
    /// It is not, but the tool gets it when it is first needed.
    Later(&'static str),
    /// It is not, and a person must act.
    No(String),
}

/// `doctor`: one line a thing. Fails if a run cannot work before a person acts.
pub(crate) fn verb() -> Result<Exit> {
    let apt = debian::present();
    let root = debian::is_root();
    let fetched = |package: &str| {
        if apt {
            Found::Later("fetched from Debian and unpacked in the tree when first needed")
        } else {
            Found::No(format!("no apt-get here: unpack Debian's package {package} by hand"))
        }
    };
    let target = |name: &str| {
        if cargo::has_target(name) {
            Found::Yes("installed".into())
        } else if debian::which("rustup") {
            Found::Later("added with rustup when first needed")
        } else {
            Found::No(format!("install rustup, or Rust's standard library for {name}"))
        }
    };
    let firmware = match firmware::find() {
        Some(firmware) => Found::Yes(firmware.code.display().to_string()),
        None => fetched(firmware::PACKAGE),
    };
    let qemu = if debian::which(qemu::PROGRAM) {
        Found::Yes(qemu::PROGRAM.into())
    } else if apt && root {
        Found::Later("installed with apt-get when first needed")
    } else if apt {
        Found::No(format!("sudo apt-get install --no-install-recommends {}", qemu::PACKAGE))
    } else {
        Found::No(format!("install {}", qemu::PROGRAM))
    };
    let xen = match xen::program() {
        program if program.is_file() => Found::Yes(paths::shown(&program)),
        _ => fetched(xen::PACKAGE),
    };
    let bootloader = match bootloader::program() {
        program if program.is_file() => Found::Yes(paths::shown(&program)),
        _ => Found::Later("built with cargo when first needed (about 20 s)"),
    };
    let linux = match linux::found() {
        Some(kernel) => Found::Yes(paths::shown(&kernel)),
        None => fetched(linux::PACKAGE),
    };
    let grub = match grub::program() {
        program if program.is_file() => Found::Yes(paths::shown(&program)),
        _ => fetched(grub::PACKAGE),
    };
    let chromium = match chromium::find() {
        Some(program) => Found::Yes(program.into()),
        None if apt && root => Found::Later("installed with apt-get when first needed"),
        // Only a test wants it, which is skipped without.
        None => Found::Later(chromium::ADVICE),
    };
    let things = [
        ("Rust for the hypervisor", target(cargo::BARE_METAL)),
        ("Rust for the bootloader", target(cargo::UEFI)),
        ("Rust for Linux's programs", target(cargo::MUSL)),
        ("UEFI bootloader", bootloader),
        ("QEMU", qemu),
        ("UEFI firmware (OVMF)", firmware),
        ("Xen (for --on xen)", xen),
        ("Linux (the guest `linux`)", linux),
        ("GRUB (the guest `grub`)", grub),
        ("Chromium (for one test)", chromium),
    ];
    let mut all_well = true;
    for (name, found) in things {
        let (mark, text) = match found {
            Found::Yes(what) => ("ok     ", what),
            Found::Later(how) => ("later  ", how.into()),
            Found::No(how) => {
                all_well = false;
                ("MISSING", how)
            }
        };
        println!("{mark}  {name:<26}  {text}");
    }
    let (accel, why) = accel::choose(AccelChoice::Auto, false)?;
    println!("ok       {:<26}  {accel:?}: {why}", "Accelerator");
    let kvm = match accel::kvm() {
        Ok(_) => "on this machine's KVM",
        Err(_) => {
            "nested: QEMU emulates a processor with SVM, Debian's kernel has KVM on it (slow)"
        }
    };
    println!("ok       {:<26}  {kvm}", "Tests under KVM");
    println!(
        "{}",
        if all_well { "Everything is there, or comes by itself." } else { "Get what is MISSING." }
    );
    Ok(if all_well { Exit::Ok } else { Exit::Host })
}
