//! The ramdisk that the hypervisor gets: a tar archive with the manifest and the guests' files.

use crate::guests::Guest;
use crate::image::Settings;
use crate::linux::bzimage;
use anyhow::{Context, Result};
use pinfold_image::manifest::{DomainConfig, FILE_NAME, Manifest};
use std::path::Path;

/// The port of QEMU's `isa-debug-exit` device.
pub(crate) const EXIT_PORT: u16 = 0xf4;

/// Packs the guests, and what the hypervisor is told besides.
pub(crate) fn build(guests: &[Guest], settings: Settings) -> Result<Vec<u8>> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut domains = Vec::new();
    for guest in guests {
        let kernel = format!("{}.kernel", guest.name);
        files.push((kernel.clone(), read_kernel(&guest.kernel)?));
        let mut initrd = None;
        if let Some(file) = &guest.initrd {
            let name = format!("{}.initrd", guest.name);
            files.push((name.clone(), read(file)?));
            initrd = Some(name);
        }
        domains.push(DomainConfig {
            name: guest.name.clone(),
            kernel,
            initrd,
            cmdline: guest.cmdline.clone(),
            memory: guest.memory,
            vcpus: guest.vcpus,
            lifetime_ms: guest.lifetime_ms,
            diagnose: guest.diagnose,
            dump_frames: guest.dump_frames,
            cache: guest.cache,
            container: guest.container,
        });
    }
    let Settings { exit, log, canaries, isolation, .. } = settings;
    let isolate_page_tables = isolation;
    let manifest = Manifest { exit, log, canaries, isolate_page_tables, domains }.to_toml()?;
    files.insert(0, (FILE_NAME.into(), manifest.into_bytes()));
    pack(&files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A kernel as the hypervisor reads it: of Linux's boot image, the ELF file in it.
fn read_kernel(path: &Path) -> Result<Vec<u8>> {
    let file = read(path)?;
    if !bzimage::is_one(&file) {
        return Ok(file);
    }
    bzimage::kernel(&file).with_context(|| format!("{}", path.display()))
}

fn pack(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .with_context(|| format!("cannot pack {name}"))?;
    }
    Ok(archive.into_inner()?)
}
