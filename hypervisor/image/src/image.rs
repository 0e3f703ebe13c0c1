//! A guest kernel: a checked ELF file, whose notes match its segments.
//!
//! A [`GuestImage`] comes only from [`GuestImage::parse`], so what its fields say is true. In this
//! crate an offset is in bytes from the start of the guest's memory. That memory is mapped in one
//! piece from `virt_base` on, so the address is `virt_base + offset` and the pfn is
//! `offset / PAGE_SIZE`.

use crate::error::ImageError;
use crate::manifest::Container;
use crate::notes::Notes;
use alloc::vec::Vec;
use core::ops::Range;
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PT_LOAD, PT_NOTE, SHT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::{ElfBytes, ParseError};
use pinfold_abi::layout::{HYPERVISOR_END, PAGE_SIZE};

/// Most loadable segments of an image. Linux has four or five.
pub const MAX_SEGMENTS: usize = 64;
/// Most program headers of an image, and most note sections that are read. Bounds the work.
pub const MAX_HEADERS: u64 = 256;
/// First address after the low half of the address space.
const LOW_HALF_END: u64 = 1 << 47;
/// The section that older kernels have instead of notes.
const LEGACY_SECTION: &str = "__xen_guest";

/// A checked guest kernel.
#[derive(Clone, Debug)]
pub struct GuestImage<'a> {
    /// Its notes.
    pub notes: Notes<'a>,
    /// Address of pfn 0: page-aligned, and outside of the hypervisor's range.
    pub virt_base: u64,
    /// Address of the first instruction: inside a segment.
    pub entry: u64,
    /// Address of the page for hypercall stubs: page-aligned, and all of it is inside of segments.
    pub hypercall_page: Option<u64>,
    /// The segments to load, sorted by offset. They don't overlap, and none is empty.
    pub segments: Vec<Segment>,
    bytes: &'a [u8],
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of the guest's memory.
    pub offset: u64,
    /// Its bytes in the file. If there are fewer than `size`, the rest is zero.
    pub file: Range<usize>,
    /// Size in memory in bytes.
    pub size: u64,
    /// Index of its program header.
    pub index: usize,
}

impl Segment {
    /// First offset after the segment. Can't overflow: [`GuestImage::parse`] has checked it.
    pub const fn end(&self) -> u64 {
        self.offset + self.size
    }
}

impl<'a> GuestImage<'a> {
    /// Parses and checks an image.
    ///
    /// # Errors
    /// [`ImageError`]: the first rule that the image breaks.
    pub fn parse(bytes: &'a [u8]) -> Result<GuestImage<'a>, ImageError> {
        let bytes = kernel_elf(bytes)?;
        check_header(bytes)?;
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)
            .map_err(|e| parse_error("headers", &e, bytes))?;
        let notes = find_notes(&file, bytes)?;
        notes.check()?;
        let virt_base = notes.virt_base.unwrap_or(0);
        if !virt_base.is_multiple_of(PAGE_SIZE) {
            return Err(ImageError::Unaligned { field: "VIRT_BASE", address: virt_base });
        }
        let window = window(virt_base).ok_or(ImageError::Window { virt_base, end: None })?;
        let segments = segments(&file, notes.paddr_offset.unwrap_or(0), virt_base, bytes)?;
        let end = segments.last().map_or(0, Segment::end);
        if end > window {
            return Err(ImageError::Window { virt_base, end: virt_base.checked_add(end) });
        }
        let image = GuestImage {
            virt_base,
            entry: notes.entry.ok_or(ImageError::MissingNote { note: "ENTRY" })?,
            hypercall_page: notes.hypercall_page,
            notes,
            segments,
            bytes,
        };
        image.check_inside("ENTRY", image.entry, 1)?;
        if let Some(page) = image.hypercall_page {
            if !page.is_multiple_of(PAGE_SIZE) {
                return Err(ImageError::Unaligned { field: "HYPERCALL_PAGE", address: page });
            }
            image.check_inside("HYPERCALL_PAGE", page, PAGE_SIZE)?;
        }
        Ok(image)
    }

    /// Whether the kernel declares that it can run in ring 0, in the hardware container.
    pub fn supervisor_mode_kernel(&self) -> bool {
        self.notes.supervisor_mode_kernel()
    }

    /// Checks that the kernel can run in this container. Without one every kernel can, since
    /// [`GuestImage::parse`] refuses those that require ring 0.
    ///
    /// # Errors
    /// [`ImageError::NoContainer`].
    pub fn check_container(&self, container: Container) -> Result<(), ImageError> {
        match container {
            Container::None => Ok(()),
            Container::Svm if self.supervisor_mode_kernel() => Ok(()),
            Container::Svm => Err(ImageError::NoContainer { container: container.name() }),
        }
    }

    /// The bytes of a segment that are in the file; the rest of the segment is zero.
    pub fn data(&self, segment: &Segment) -> &'a [u8] {
        self.bytes.get(segment.file.clone()).unwrap_or_default()
    }

    /// First offset after the last segment.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end)
    }

    /// Number of pages between `virt_base` and the end of its half of the address space.
    pub fn window_pages(&self) -> u64 {
        window(self.virt_base).unwrap_or(0) / PAGE_SIZE
    }

    /// Checks that `size` bytes at `address` are inside of segments: of one, or of adjacent ones.
    fn check_inside(&self, field: &'static str, address: u64, size: u64) -> Result<(), ImageError> {
        let low = self.segments.first().map_or(0, |s| s.offset);
        let outside = || ImageError::Outside {
            field,
            address,
            low: self.virt_base.wrapping_add(low),
            high: self.virt_base.wrapping_add(self.end().saturating_sub(1)),
        };
        let mut at = address.checked_sub(self.virt_base).ok_or_else(outside)?;
        let end = at.checked_add(size).ok_or_else(outside)?;
        for segment in &self.segments {
            if segment.offset <= at && at < segment.end() {
                at = segment.end();
            }
        }
        if at >= end { Ok(()) } else { Err(outside()) }
    }
}

/// Returns the ELF file in a kernel. Compressed kernels are recognised but not unpacked.
fn kernel_elf(bytes: &[u8]) -> Result<&[u8], ImageError> {
    /// Offset of "HdrS" in the setup header of a Linux bzImage.
    const BOOT_MAGIC: Range<usize> = 0x202..0x206;
    if bytes.get(BOOT_MAGIC) == Some(b"HdrS".as_slice()) {
        return Err(ImageError::Malformed {
            field: "header",
            problem: "a compressed boot image (bzImage); give the ELF file inside of it, as cargo xtask run does",
        });
    }
    Ok(bytes)
}

/// Number of bytes between `virt_base` and the end of its half of the address space; `None` if a guest
/// can't have memory there.
const fn window(virt_base: u64) -> Option<u64> {
    if virt_base < LOW_HALF_END {
        Some(LOW_HALF_END - virt_base)
    } else if virt_base >= HYPERVISOR_END {
        // Without the last page, so that the end of the guest's memory never wraps to zero.
        Some((u64::MAX - virt_base) & !(PAGE_SIZE - 1))
    } else {
        None
    }
}

/// Checks the ELF header: rules that the `elf` crate doesn't check, or without naming the field.
fn check_header(bytes: &[u8]) -> Result<(), ImageError> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: u64 = 56;
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        let len = bytes.len() as u64;
        return Err(ImageError::Truncated { field: "ELF header", end: HEADER as u64, len });
    };
    let half = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let check = |field, found: u64, good: bool, expected| {
        if good { Ok(()) } else { Err(ImageError::Header { field, found, expected }) }
    };
    let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    check("EI_MAG", magic.into(), magic == 0x7f45_4c46, "0x7f454c46, the mark of an ELF file")?;
    check("EI_CLASS", header[4].into(), header[4] == 2, "2, a 64-bit file")?;
    check("EI_DATA", header[5].into(), header[5] == 1, "1, little-endian")?;
    check("EI_VERSION", header[6].into(), header[6] == 1, "1")?;
    let kind = half(16);
    let good = kind == u64::from(ET_EXEC) || kind == u64::from(ET_DYN);
    check("e_type", kind, good, "2 or 3, an executable")?;
    check("e_machine", half(18), half(18) == u64::from(EM_X86_64), "0x3e, x86-64")?;
    let count = half(56);
    check("e_phnum", count, count != 0 && count <= MAX_HEADERS, "1 to 0x100 program headers")?;
    check("e_phentsize", half(54), half(54) == PROGRAM_HEADER, "56")
}

fn parse_error(field: &'static str, error: &ParseError, bytes: &[u8]) -> ImageError {
    match error {
        ParseError::SliceReadError((_, end)) => {
            ImageError::Truncated { field, end: *end as u64, len: bytes.len() as u64 }
        }
        ParseError::IntegerOverflow | ParseError::TryFromIntError(_) => {
            ImageError::Malformed { field, problem: "an offset or a count overflows" }
        }
        ParseError::BadEntsize(_) => {
            ImageError::Malformed { field, problem: "e_phentsize or e_shentsize is wrong" }
        }
        ParseError::StringTableMissingNul(_) | ParseError::Utf8Error(_) => {
            ImageError::Malformed { field, problem: "a section name is not text" }
        }
        _ => ImageError::Malformed { field, problem: "not understood" },
    }
}

fn find_notes<'a>(
    file: &ElfBytes<'a, LittleEndian>,
    bytes: &'a [u8],
) -> Result<Notes<'a>, ImageError> {
    let mut notes = Notes::default();
    for header in file.segments().into_iter().flatten().filter(|h| h.p_type == PT_NOTE) {
        notes.read(file.segment_data(&header).map_err(|e| parse_error("PT_NOTE", &e, bytes))?)?;
    }
    if notes.is_empty() {
        let sections = file.section_headers().into_iter().flatten();
        for header in sections.filter(|h| h.sh_type == SHT_NOTE).take(MAX_HEADERS as usize) {
            let data =
                file.section_data(&header).map_err(|e| parse_error("SHT_NOTE", &e, bytes))?;
            notes.read(data.0)?;
        }
    }
    if notes.is_empty() {
        let legacy = file
            .section_header_by_name(LEGACY_SECTION)
            .map_err(|e| parse_error("section names", &e, bytes))?
            .ok_or(ImageError::NoNotes)?;
        let data =
            file.section_data(&legacy).map_err(|e| parse_error(LEGACY_SECTION, &e, bytes))?;
        notes.read_legacy(data.0)?;
    }
    Ok(notes)
}

fn segments(
    file: &ElfBytes<'_, LittleEndian>,
    paddr_offset: u64,
    virt_base: u64,
    bytes: &[u8],
) -> Result<Vec<Segment>, ImageError> {
    debug_assert!(file.ehdr.class == Class::ELF64);
    let headers = file.segments().ok_or(ImageError::NoSegments)?;
    let loadable =
        || headers.iter().enumerate().filter(|(_, h)| h.p_type == PT_LOAD && h.p_memsz != 0);
    // Counted before anything is allocated, since the image decides how many there are.
    let count = loadable().count();
    if count > MAX_SEGMENTS {
        return Err(ImageError::TooManySegments { count, max: MAX_SEGMENTS });
    }
    if let Some((index, header)) =
        headers.iter().enumerate().find(|(_, h)| h.p_type == PT_LOAD && h.p_filesz > h.p_memsz)
    {
        let (filesz, memsz) = (header.p_filesz, header.p_memsz);
        return Err(ImageError::SegmentSize { index, filesz, memsz });
    }
    let mut segments = Vec::with_capacity(count);
    for (index, header) in loadable() {
        let past_end = || ImageError::SegmentFile {
            index,
            offset: header.p_offset,
            filesz: header.p_filesz,
            len: bytes.len() as u64,
        };
        let file_end = header.p_offset.checked_add(header.p_filesz).ok_or_else(past_end)?;
        if file_end > bytes.len() as u64 {
            return Err(past_end());
        }
        let offset = header.p_paddr.checked_sub(paddr_offset).ok_or(ImageError::SegmentBelow {
            index,
            paddr: header.p_paddr,
            paddr_offset,
        })?;
        // Rounding up the end to a page must not overflow either.
        offset
            .checked_add(header.p_memsz)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(ImageError::SegmentOverflow {
                index,
                paddr: header.p_paddr,
                memsz: header.p_memsz,
            })?;
        segments.push(Segment {
            offset,
            // Both are within the slice, so they are within `usize`.
            file: header.p_offset as usize..file_end as usize,
            size: header.p_memsz,
            index,
        });
    }
    if segments.is_empty() {
        return Err(ImageError::NoSegments);
    }
    segments.sort_by_key(|s| s.offset);
    for pair in segments.windows(2) {
        if let [low, high] = pair
            && low.end() > high.offset
        {
            return Err(ImageError::SegmentsOverlap {
                first: low.index,
                second: high.index,
                address: virt_base.wrapping_add(high.offset),
            });
        }
    }
    Ok(segments)
}
