//! The boot image: a raw disk with a GPT and one EFI system partition (FAT32).
//!
//! The UEFI bootloader wants fixed names on it: itself at the removable-media path, the kernel as
//! `kernel-x86_64`, the `ramdisk`, and its settings in `boot.json`.

use crate::cli::ImageArgs;
use crate::exit::Exit;
use crate::guests::{self, Guest};
use crate::{cargo, fetch, paths, ramdisk};
use anyhow::{Context, Result};
use pinfold_abi::direct_start::{self, Header};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_image::Isolation;
use pinfold_image::manifest::LogLevel;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// The package of the hypervisor.
pub(crate) const HYPERVISOR: &str = "pinfold";
/// The package of the loader that starts it without firmware.
pub(crate) const LOADER: &str = "pinfold-loader";
/// Where it runs: the address that its boot configuration asks for (slot 261 of the top table).
/// Its file is position-independent and begins at 0.
pub(crate) const HYPERVISOR_BASE: u64 = 0xffff_8280_0000_0000;

const SECTOR: u64 = 512;
/// Where the partition begins: 1 MiB, the usual alignment.
const START: u64 = 1 << 20;
/// Left behind the partition for the second copy of the GPT.
const TAIL: u64 = 1 << 20;
/// FAT32 needs at least 65525 clusters; with clusters of 1 KiB, 72 MiB is enough for that.
const SMALLEST_VOLUME: u64 = 72 << 20;
const CLUSTER: u32 = 1024;

/// `image`: builds everything and writes the disk.
pub(crate) fn verb(args: &ImageArgs) -> Result<Exit> {
    let guests = guests::resolve(&args.guest, &[HYPERVISOR])?;
    let file = args.output.clone().unwrap_or_else(|| paths::target().join("pinfold.img"));
    // Nobody ends a real machine: it halts, and its log says how it all went.
    let settings = Settings {
        boot_log: false,
        exit: pinfold_image::Exit::Halt,
        log: LogLevel::default(),
        canaries: false,
        isolation: Isolation::Auto,
    };
    write(&file, &guests, settings)?;
    println!("{}", file.display());
    Ok(Exit::Ok)
}

/// What is not about guests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The bootloader says what it does.
    pub(crate) boot_log: bool,
    /// How the machine ends when the last guest has.
    pub(crate) exit: pinfold_image::Exit,
    /// How much the hypervisor logs.
    pub(crate) log: LogLevel,
    /// Whether the hypervisor watches some of the frames that guests give back.
    pub(crate) canaries: bool,
    /// Whether guests run on page tables without the hypervisor's memory.
    pub(crate) isolation: Isolation,
}

/// Writes the boot disk for these guests; the hypervisor must have been built.
pub(crate) fn write(file: &Path, guests: &[Guest], settings: Settings) -> Result<()> {
    let bootloader = fetch::bootloader::ensure()?;
    let hypervisor = cargo::built(HYPERVISOR);
    // Panics of the bootloader reach the serial port at every level; the rest is asked for.
    let level = if settings.boot_log { "Info" } else { "Error" };
    let boot = format!(
        "{{\"frame_buffer_logging\":false,\"serial_logging\":true,\"log_level\":\"{level}\"}}"
    );
    let files = BTreeMap::from([
        ("efi/boot/bootx64.efi", read(&bootloader)?),
        ("kernel-x86_64", read(&hypervisor)?),
        ("ramdisk", ramdisk::build(guests, settings)?),
        ("boot.json", boot.into_bytes()),
    ]);
    write_disk(file, &files).with_context(|| format!("cannot write {}", file.display()))
}

/// Writes the payload of the loader that starts without firmware; the hypervisor must have been built.
pub(crate) fn write_payload(file: &Path, guests: &[Guest], settings: Settings) -> Result<()> {
    let kernel = read(&cargo::built(HYPERVISOR))?;
    let archive = ramdisk::build(guests, settings)?;
    let payload = payload(&kernel, &archive);
    std::fs::write(file, payload).with_context(|| format!("cannot write {}", file.display()))
}

/// The header, the hypervisor and the archive, each at the start of a page.
fn payload(kernel: &[u8], archive: &[u8]) -> Vec<u8> {
    let header = Header {
        magic: direct_start::MAGIC,
        kernel_bytes: kernel.len() as u64,
        archive_bytes: archive.len() as u64,
    };
    let mut payload = header.as_bytes().to_vec();
    for part in [kernel, archive] {
        payload.resize(payload.len().next_multiple_of(PAGE_SIZE as usize), 0);
        payload.extend_from_slice(part);
    }
    payload
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Writes a disk with these files on its one partition. The file is sparse.
fn write_disk(path: &Path, files: &BTreeMap<&str, Vec<u8>>) -> Result<()> {
    let content: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    // A quarter more than the content holds the tables and every rounding.
    let volume = (content + content / 4).next_multiple_of(1 << 20).max(SMALLEST_VOLUME);
    let size = START + volume + TAIL;

    let mut disk =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    disk.set_len(size)?;
    let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut disk)
        .context("protective MBR")?;
    write_table(&mut disk, volume)?;

    let partition = fscommon::StreamSlice::new(&mut disk, START, START + volume)?;
    let mut partition = fscommon::BufStream::new(partition);
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat32)
        .bytes_per_cluster(CLUSTER)
        .volume_label(*b"PINFOLD    ");
    fatfs::format_volume(&mut partition, options)?;
    let system = fatfs::FileSystem::new(partition, fatfs::FsOptions::new())?;
    let root = system.root_dir();
    for (name, bytes) in files {
        for (at, _) in name.match_indices('/') {
            root.create_dir(&name[..at])?;
        }
        let mut file = root.create_file(name)?;
        file.write_all(bytes)?;
        file.flush()?;
    }
    drop(root);
    system.unmount()?;
    Ok(())
}

/// Writes both copies of the partition table.
fn write_table(disk: &mut File, volume: u64) -> Result<()> {
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .create_from_device(disk, None)
        .context("partition table")?;
    table
        .add_partition_at(
            "PINFOLD",
            1,
            START / SECTOR,
            volume / SECTOR,
            gpt::partition_types::EFI,
            0,
        )
        .context("partition")?;
    table.write().context("partition table")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use zerocopy::FromBytes;

    #[test]
    fn a_payload_has_its_parts_where_the_header_says() {
        for (kernel, archive) in [(1, 1), (4096, 5), (5000, 4096)] {
            let (kernel, archive) = (vec![7u8; kernel], vec![9u8; archive]);
            let payload = payload(&kernel, &archive);
            let (header, _) = Header::read_from_prefix(&payload).unwrap();
            assert_eq!(header.magic, direct_start::MAGIC);
            assert_eq!(header.payload_bytes(), Some(payload.len() as u64));
            let at = header.archive().unwrap() as usize;
            assert_eq!(payload[Header::KERNEL as usize..][..kernel.len()], kernel);
            assert_eq!(payload[at..], archive);
            assert_eq!(at % 4096, 0);
        }
    }

    #[test]
    fn a_disk_reads_back() {
        let path = std::env::temp_dir().join(format!("pinfold-image-{}.img", std::process::id()));
        let kernel: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let files = BTreeMap::from([
            ("efi/boot/bootx64.efi", b"loader".to_vec()),
            ("kernel-x86_64", kernel.clone()),
        ]);
        write_disk(&path, &files).unwrap();

        let disk = gpt::GptConfig::new().open(&path).unwrap();
        let partition = disk.partitions().get(&1).unwrap().clone();
        assert_eq!(partition.part_type_guid, gpt::partition_types::EFI);
        let (start, end) = (partition.first_lba * SECTOR, (partition.last_lba + 1) * SECTOR);
        drop(disk);
        let slice = fscommon::StreamSlice::new(File::open(&path).unwrap(), start, end).unwrap();
        // fatfs wants a stream that could be written; nothing here does.
        let system = fatfs::FileSystem::new(
            fscommon::BufStream::new(slice),
            fatfs::FsOptions::new().update_accessed_date(false),
        )
        .unwrap();
        assert_eq!(system.fat_type(), fatfs::FatType::Fat32);
        let mut back = Vec::new();
        system.root_dir().open_file("kernel-x86_64").unwrap().read_to_end(&mut back).unwrap();
        assert!(back == kernel);
        assert!(system.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
