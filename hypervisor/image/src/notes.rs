//! What a guest image says about itself: ELF notes of owner `Xen` (`public/elfnote.h`), or the older
//! section `__xen_guest`.
//!
//! Notes are read from PT_NOTE segments. If there are none, from SHT_NOTE sections; if there are none
//! either, from the older section. A number may have 4 or 8 bytes. A note that occurs twice must have
//! the same value, so it is never unclear which entry point is meant.

use crate::error::ImageError;
use alloc::string::String;
use pinfold_abi::elfnote::{Note, OWNER};
use pinfold_abi::layout::{HYPERVISOR_START, PAGE_SIZE};
use pinfold_abi::version::{FEATURE_NAMES, XENFEAT_SUPERVISOR_MODE_KERNEL};

/// Bytes of a note's header: name size, descriptor size, type.
const HEADER: usize = 12;
/// Notes are aligned to 4 bytes, also in 64-bit files, as all toolchains do it.
const ALIGN: usize = 4;
/// Names of features that a guest may require: those of a PV guest, and `writable_page_tables`, which
/// exists in the form of `vm_assist`.
const SATISFIABLE: [&str; 7] = [
    "writable_page_tables",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "memory_op_vnode_supported",
    "not_direct_mapped",
];

/// The notes of an image, not yet compared with its segments. `None`: there is no such note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes<'a> {
    /// Address of the first instruction.
    pub entry: Option<u64>,
    /// Address of the page for hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// Address of pfn 0.
    pub virt_base: Option<u64>,
    /// What to subtract from `p_paddr` to get a pseudo-physical address.
    pub paddr_offset: Option<u64>,
    /// Lowest address at which the hypervisor's range may begin.
    pub hv_start_low: Option<u64>,
    /// Where the guest wants its p2m list, outside of the first mapping.
    pub init_p2m: Option<u64>,
    /// The guest takes an unmapped initrd, by pfn.
    pub mod_start_pfn: bool,
    /// The ABI's name.
    pub xen_version: Option<&'a str>,
    /// The guest's name.
    pub guest_os: Option<&'a str>,
    /// The guest's version.
    pub guest_version: Option<&'a str>,
    /// The loader that the guest is made for.
    pub loader: Option<&'a str>,
    /// Features that the guest can use, `1 << XENFEAT_*`.
    pub supported_features: u32,
    /// Features that the guest requires, `1 << XENFEAT_*`.
    pub required_features: u32,
    /// Types of notes seen so far, `1 << Note`.
    seen: u32,
}

impl<'a> Notes<'a> {
    /// Whether no note has been found.
    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Whether the kernel declares, in `FEATURES` or `SUPPORTED_FEATURES`, that it can run in ring 0.
    pub fn supervisor_mode_kernel(&self) -> bool {
        self.supported_features & 1 << XENFEAT_SUPERVISOR_MODE_KERNEL != 0
    }

    /// Reads the notes of one PT_NOTE segment or SHT_NOTE section. Notes of other owners are ignored.
    ///
    /// # Errors
    /// [`ImageError`]: a note is malformed, contradicts an earlier one, or requires a feature that
    /// doesn't exist here.
    pub fn read(&mut self, bytes: &'a [u8]) -> Result<(), ImageError> {
        let mut rest = bytes;
        // Fewer bytes than a header are padding.
        while let Some((header, after)) = rest.split_at_checked(HEADER) {
            let word = |at: usize| {
                let bytes = header.get(at..at + 4).and_then(|b| b.try_into().ok());
                u32::from_le_bytes(bytes.unwrap_or_default())
            };
            let (name_len, desc_len, kind) = (word(0) as usize, word(4) as usize, word(8));
            let position = (bytes.len() - rest.len()) as u64;
            let truncated = || ImageError::Truncated {
                field: "note",
                end: position + HEADER as u64 + name_len as u64 + desc_len as u64,
                len: bytes.len() as u64,
            };
            let (name, after) = split_padded(after, name_len).ok_or_else(truncated)?;
            let (desc, after) = split_padded(after, desc_len).ok_or_else(truncated)?;
            rest = after;
            if name.strip_suffix(&[0]).unwrap_or(name) != OWNER.as_bytes() {
                continue;
            }
            // No kernel depends on a type that is newer than the known ones.
            if let Some(note) = Note::from_repr(kind) {
                self.set(note, desc)?;
            }
        }
        Ok(())
    }

    /// Records one note.
    fn set(&mut self, note: Note, desc: &'a [u8]) -> Result<(), ImageError> {
        let name = note.name();
        let repeated = self.seen & 1 << note as u32 != 0;
        self.seen |= 1 << note as u32;
        match note {
            Note::Entry => set_once(&mut self.entry, number(name, desc)?, name),
            Note::HypercallPage => set_once(&mut self.hypercall_page, number(name, desc)?, name),
            Note::VirtBase => set_once(&mut self.virt_base, number(name, desc)?, name),
            Note::PaddrOffset => set_once(&mut self.paddr_offset, number(name, desc)?, name),
            Note::HvStartLow => set_once(&mut self.hv_start_low, number(name, desc)?, name),
            Note::InitP2m => set_once(&mut self.init_p2m, number(name, desc)?, name),
            Note::XenVersion => set_once(&mut self.xen_version, text(name, desc)?, name),
            Note::GuestOs => set_once(&mut self.guest_os, text(name, desc)?, name),
            Note::GuestVersion => set_once(&mut self.guest_version, text(name, desc)?, name),
            Note::Loader => set_once(&mut self.loader, text(name, desc)?, name),
            Note::ModStartPfn => {
                let wanted = number(name, desc)? != 0;
                if repeated && wanted != self.mod_start_pfn {
                    return Err(ImageError::NoteConflict { note: name });
                }
                self.mod_start_pfn = wanted;
                Ok(())
            }
            // The union of both forms and of all repetitions counts, as the ABI defines.
            Note::Features => self.add_features(text(name, desc)?),
            Note::SupportedFeatures => {
                self.supported_features |= number(name, desc)? as u32;
                Ok(())
            }
            // For tools, 32-bit guests or other ways of booting.
            Note::Info
            | Note::PaeMode
            | Note::BsdSymtab
            | Note::L1MfnValid
            | Note::SuspendCancel
            | Note::Phys32Entry
            | Note::Phys32Reloc => Ok(()),
        }
    }

    /// Adds the features of a list `name|!name|...`. `!` means required. Unknown names are ignored unless
    /// they are required.
    fn add_features(&mut self, list: &str) -> Result<(), ImageError> {
        for item in list.split('|').map(str::trim).filter(|item| !item.is_empty()) {
            let (required, name) = match item.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, item),
            };
            match FEATURE_NAMES.iter().find(|(known, _)| *known == name) {
                Some(&(known, bit)) => {
                    self.supported_features |= 1 << bit;
                    if required {
                        if !SATISFIABLE.contains(&known) {
                            return Err(ImageError::UnsupportedFeature { name: known });
                        }
                        self.required_features |= 1 << bit;
                    }
                }
                None if required => {
                    return Err(ImageError::UnknownFeature { name: excerpt(name) });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Reads the section `__xen_guest`: `KEY=value,KEY=value`. There, HYPERCALL_PAGE is a page number
    /// relative to VIRT_BASE, and ELF_PADDR_OFFSET is VIRT_BASE by default.
    ///
    /// # Errors
    /// As [`Notes::read`].
    pub fn read_legacy(&mut self, bytes: &'a [u8]) -> Result<(), ImageError> {
        const SECTION: &str = "__xen_guest";
        let list = text(SECTION, bytes)?;
        let mut page = None;
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            let address = |note| {
                legacy_number(value).ok_or_else(|| ImageError::NoteValue {
                    note,
                    found: excerpt(value),
                    expected: "a number",
                })
            };
            match key {
                "VIRT_BASE" => set_once(&mut self.virt_base, address("VIRT_BASE")?, "VIRT_BASE")?,
                "VIRT_ENTRY" => set_once(&mut self.entry, address("VIRT_ENTRY")?, "VIRT_ENTRY")?,
                "HYPERCALL_PAGE" => {
                    set_once(&mut page, address("HYPERCALL_PAGE")?, "HYPERCALL_PAGE")?;
                }
                "ELF_PADDR_OFFSET" => set_once(
                    &mut self.paddr_offset,
                    address("ELF_PADDR_OFFSET")?,
                    "ELF_PADDR_OFFSET",
                )?,
                "LOADER" => set_once(&mut self.loader, value, "LOADER")?,
                "GUEST_OS" => set_once(&mut self.guest_os, value, "GUEST_OS")?,
                "GUEST_VER" => set_once(&mut self.guest_version, value, "GUEST_VER")?,
                "XEN_VER" => set_once(&mut self.xen_version, value, "XEN_VER")?,
                "FEATURES" => self.add_features(value)?,
                _ => {}
            }
        }
        let base = self.virt_base.unwrap_or(0);
        self.paddr_offset.get_or_insert(base);
        if let Some(page) = page {
            let address = page.checked_mul(PAGE_SIZE).and_then(|offset| base.checked_add(offset));
            self.hypercall_page = Some(address.ok_or_else(|| ImageError::NoteValue {
                note: "HYPERCALL_PAGE",
                found: alloc::format!("{page:#x}"),
                expected: "a page number",
            })?);
        }
        self.seen |= 1 << Note::Info as u32;
        Ok(())
    }

    /// Checks the notes that name the ABI, the loader and the hypervisor's range.
    ///
    /// # Errors
    /// [`ImageError::NoteValue`].
    pub fn check(&self) -> Result<(), ImageError> {
        const ABI: &str = "xen-3.0";
        const GENERIC: &str = "generic";
        let must_be = |note, found: Option<&str>, expected| match found {
            Some(text) if text != expected => {
                Err(ImageError::NoteValue { note, found: excerpt(text), expected })
            }
            _ => Ok(()),
        };
        must_be("XEN_VERSION", self.xen_version, ABI)?;
        must_be("LOADER", self.loader, GENERIC)?;
        match self.hv_start_low {
            Some(low) if low > HYPERVISOR_START => Err(ImageError::NoteValue {
                note: "HV_START_LOW",
                found: alloc::format!("{low:#x}"),
                expected: "at most 0xffff800000000000, where the hypervisor's hole begins",
            }),
            _ => Ok(()),
        }
    }
}

/// Splits off the first `len` bytes. The rest begins after their padding, which may be missing at the
/// end of the notes.
fn split_padded(bytes: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let taken = bytes.get(..len)?;
    let padded = len.checked_next_multiple_of(ALIGN)?.min(bytes.len());
    Some((taken, bytes.get(padded..)?))
}

/// Sets a value that may be given more than once, but not differently.
fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    value: T,
    note: &'static str,
) -> Result<(), ImageError> {
    match slot {
        Some(present) if *present != value => Err(ImageError::NoteConflict { note }),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn number(note: &'static str, desc: &[u8]) -> Result<u64, ImageError> {
    if let Ok(eight) = <[u8; 8]>::try_from(desc) {
        Ok(u64::from_le_bytes(eight))
    } else if let Ok(four) = <[u8; 4]>::try_from(desc) {
        Ok(u32::from_le_bytes(four).into())
    } else {
        Err(ImageError::NoteSize { note, len: desc.len() })
    }
}

/// Text up to the first NUL, or all of it.
fn text<'a>(note: &'static str, desc: &'a [u8]) -> Result<&'a str, ImageError> {
    let end = desc.iter().position(|&byte| byte == 0).unwrap_or(desc.len());
    let text = core::str::from_utf8(&desc[..end]).map_err(|_| ImageError::NoteText { note })?;
    if text.chars().any(char::is_control) {
        return Err(ImageError::NoteText { note });
    }
    Ok(text)
}

fn legacy_number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

/// A value from the image, cut and escaped for one line of the log.
fn excerpt(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
