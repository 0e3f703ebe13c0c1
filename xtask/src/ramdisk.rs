//! The ramdisk that the hypervisor gets: a tar archive with the manifest and the guests' files.

use crate::guests::Guest;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// The manifest's name in the archive; it comes first.
const MANIFEST: &str = "pinfold.toml";

/// Packs the guests.
pub(crate) fn build(guests: &[Guest]) -> Result<Vec<u8>> {
    let mut manifest = String::from("exit = { debug-exit = 0xf4 }\n");
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for guest in guests {
        let kernel = format!("{}.kernel", guest.name);
        files.push((kernel.clone(), read(&guest.kernel)?));
        writeln!(
            manifest,
            "[[domain]]\nname = {:?}\nkernel = {kernel:?}\ncmdline = {:?}\nmemory = {}\nvcpus = {}",
            guest.name,
            guest.cmdline,
            guest.memory.bytes(),
            guest.vcpus
        )?;
        if let Some(initrd) = &guest.initrd {
            let name = format!("{}.initrd", guest.name);
            writeln!(manifest, "initrd = {name:?}")?;
            files.push((name, read(initrd)?));
        }
    }
    files.insert(0, (MANIFEST.into(), manifest.into_bytes()));
    pack(&files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
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
