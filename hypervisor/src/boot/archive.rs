//! The boot archive: a tar file with the manifest and the images of the guests.

use super::MachineInfo;
use crate::memory::direct_map;
use core::fmt;
use pinfold_image::{Manifest, ManifestError};
use tar_no_std::TarArchiveRef;

/// Why the manifest could not be read.
#[derive(Debug)]
pub enum ArchiveError {
    /// The boot loader reports no archive.
    Missing,
    /// The archive is not a tar file.
    NotTar,
    /// The archive has no manifest.
    NoManifest,
    /// The manifest is invalid.
    BadManifest(ManifestError),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Missing => write!(f, "reason=\"the boot volume has no file `ramdisk`\""),
            ArchiveError::NotTar => write!(f, "reason=\"the file `ramdisk` is not a tar archive\""),
            ArchiveError::NoManifest => {
                write!(f, "reason=\"the archive has no {}\"", pinfold_image::manifest::FILE_NAME)
            }
            ArchiveError::BadManifest(why) => {
                write!(f, "reason=\"{}: {why}\"", pinfold_image::manifest::FILE_NAME)
            }
        }
    }
}

/// The archive, which stays in memory.
pub struct Archive(Option<&'static [u8]>);

impl Archive {
    /// Opens the archive that the boot loader left in memory.
    pub fn open(boot: &MachineInfo) -> Archive {
        Archive(boot.archive.map(|(physical, bytes)| {
            let start = direct_map::address(physical) as *const u8;
            // SAFETY: the boot loader's memory map doesn't list the file as usable memory, so nothing
            // ever writes there.
            unsafe { core::slice::from_raw_parts(start, bytes as usize) }
        }))
    }

    /// The contents of a file.
    pub fn file(&self, name: &str) -> Option<&'static [u8]> {
        let archive = TarArchiveRef::new(self.0?).ok()?;
        archive
            .entries()
            .find(|entry| entry.filename().as_str().is_ok_and(|n| n == name))
            .map(|entry| entry.data())
    }

    /// The manifest.
    ///
    /// # Errors
    /// If it is missing or invalid.
    pub fn manifest(&self) -> Result<Manifest, ArchiveError> {
        let bytes = self.0.ok_or(ArchiveError::Missing)?;
        TarArchiveRef::new(bytes).map_err(|_| ArchiveError::NotTar)?;
        let file = self.file(pinfold_image::manifest::FILE_NAME).ok_or(ArchiveError::NoManifest)?;
        Manifest::parse(file).map_err(ArchiveError::BadManifest)
    }
}
