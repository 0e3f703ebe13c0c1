//! Why an image was refused: one variant per rule, each with the field and the values that broke
//! it, and words for the log.

use alloc::string::String;
use core::fmt;

/// Why a guest image was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// A header field has a value that a PV64 kernel can't have.
    Header {
        /// Its name in the ELF specification.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// Something reaches past the end of the file.
    Truncated {
        /// What.
        field: &'static str,
        /// Where it ends, bytes from the start of the file.
        end: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// The ELF structure contradicts itself.
    Malformed {
        /// Where.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nothing to load.
    NoSegments,
    /// More loadable segments than any kernel has.
    TooManySegments {
        /// How many there are.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// A segment's bytes reach past the end of the file.
    SegmentFile {
        /// Which program header.
        index: usize,
        /// Its `p_offset`.
        offset: u64,
        /// Its `p_filesz`.
        filesz: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A segment has more bytes in the file than in memory.
    SegmentSize {
        /// Which program header.
        index: usize,
        /// Its `p_filesz`.
        filesz: u64,
        /// Its `p_memsz`.
        memsz: u64,
    },
    /// A segment lies below the start of the guest's memory.
    SegmentBelow {
        /// Which program header.
        index: usize,
        /// Its `p_paddr`.
        paddr: u64,
        /// The offset that is taken from it (note PADDR_OFFSET).
        paddr_offset: u64,
    },
    /// A segment's end is no address.
    SegmentOverflow {
        /// Which program header.
        index: usize,
        /// Its `p_paddr`.
        paddr: u64,
        /// Its `p_memsz`.
        memsz: u64,
    },
    /// Two segments claim the same byte.
    SegmentsOverlap {
        /// The program header of the lower one.
        first: usize,
        /// The program header of the higher one.
        second: usize,
        /// The first address that both claim.
        address: u64,
    },
    /// The image begins or ends where a guest can't have memory.
    Window {
        /// First address of the guest's memory (note VIRT_BASE).
        virt_base: u64,
        /// First address after the image, if it is one.
        end: Option<u64>,
    },
    /// An address that must be one of the image's is not.
    Outside {
        /// Which: the note's name.
        field: &'static str,
        /// Its value.
        address: u64,
        /// The image's first address.
        low: u64,
        /// The image's last address.
        high: u64,
    },
    /// An address that must be page-aligned is not.
    Unaligned {
        /// Which: the note's name.
        field: &'static str,
        /// Its value.
        address: u64,
    },
    /// Not a PV kernel: neither notes nor the legacy section.
    NoNotes,
    /// A note that a PV kernel must have is missing.
    MissingNote {
        /// Its name.
        note: &'static str,
    },
    /// A number is neither four nor eight bytes long.
    NoteSize {
        /// The note's name.
        note: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// The text of a note is not text.
    NoteText {
        /// The note's name.
        note: &'static str,
    },
    /// The same note twice, with different contents.
    NoteConflict {
        /// Its name.
        note: &'static str,
    },
    /// A note's value is not acceptable.
    NoteValue {
        /// Its name.
        note: &'static str,
        /// Its value, cut to a line's worth.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The kernel requires a feature that nobody knows.
    UnknownFeature {
        /// Its name, cut to a line's worth.
        name: String,
    },
    /// The kernel requires a feature that a PV guest does not get here.
    UnsupportedFeature {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Header { field, found, expected } => {
                write!(f, "{field} is {found:#x}, not {expected}")
            }
            ImageError::Truncated { field, end, len } => {
                write!(f, "{field} ends at byte {end:#x}, the file at {len:#x}")
            }
            ImageError::Malformed { field, problem } => write!(f, "{field}: {problem}"),
            ImageError::NoSegments => f.write_str("p_type: no loadable segment (PT_LOAD)"),
            ImageError::TooManySegments { count, most } => {
                write!(f, "e_phnum: {count} loadable segments; at most {most} are taken")
            }
            ImageError::SegmentFile { index, offset, filesz, len } => write!(
                f,
                "segment {index}: p_offset {offset:#x} with p_filesz {filesz:#x} reaches past the end of the file at {len:#x}"
            ),
            ImageError::SegmentSize { index, filesz, memsz } => {
                write!(f, "segment {index}: p_filesz {filesz:#x} exceeds p_memsz {memsz:#x}")
            }
            ImageError::SegmentBelow { index, paddr, paddr_offset } => write!(
                f,
                "segment {index}: p_paddr {paddr:#x} is below the note PADDR_OFFSET {paddr_offset:#x}"
            ),
            ImageError::SegmentOverflow { index, paddr, memsz } => write!(
                f,
                "segment {index}: p_paddr {paddr:#x} with p_memsz {memsz:#x} exceeds the address space"
            ),
            ImageError::SegmentsOverlap { first, second, address } => {
                write!(f, "p_paddr: segments {first} and {second} both claim address {address:#x}")
            }
            ImageError::Window { virt_base, end: Some(end) } => write!(
                f,
                "VIRT_BASE {virt_base:#x}: the image up to {end:#x} touches the hypervisor's hole or leaves its half of the address space"
            ),
            ImageError::Window { virt_base, end: None } => write!(
                f,
                "VIRT_BASE {virt_base:#x}: not an address that a guest can have, or the image exceeds the address space"
            ),
            ImageError::Outside { field, address, low, high } => {
                write!(f, "{field} {address:#x} is outside of the image {low:#x}-{high:#x}")
            }
            ImageError::Unaligned { field, address } => {
                write!(f, "{field} {address:#x} is not page-aligned")
            }
            ImageError::NoNotes => f.write_str(
                "notes: no note of owner Xen and no section __xen_guest: not a PV kernel",
            ),
            ImageError::MissingNote { note } => write!(f, "the note {note} is missing"),
            ImageError::NoteSize { note, len } => {
                write!(f, "the note {note} is {len} bytes long, not 4 or 8")
            }
            ImageError::NoteText { note } => write!(f, "the note {note} is not text"),
            ImageError::NoteConflict { note } => {
                write!(f, "the note {note} stands twice with different values")
            }
            ImageError::NoteValue { note, found, expected } => {
                write!(f, "the note {note} is `{found}`, not {expected}")
            }
            ImageError::UnknownFeature { name } => {
                write!(f, "the note FEATURES requires `{name}`, which is no known feature")
            }
            ImageError::UnsupportedFeature { name } => {
                write!(f, "the note FEATURES requires `{name}`, which a PV guest does not get")
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// Why no first address space could be planned, or described to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The domain has less memory than its first address space needs.
    MemoryTooSmall {
        /// What did not fit any more.
        what: &'static str,
        /// Pages needed up to there.
        needed: u64,
        /// Pages of the domain.
        pages: u64,
    },
    /// The first address space does not fit between VIRT_BASE and the end of its half.
    WindowTooSmall {
        /// First address.
        virt_base: u64,
        /// Pages needed.
        needed: u64,
        /// Pages that there are addresses for.
        window: u64,
    },
    /// The command line does not fit in the start-of-day page.
    CommandLine {
        /// Its bytes.
        len: usize,
        /// Most bytes.
        most: usize,
    },
    /// A frame of the plan has no machine frame.
    NoMachineFrame {
        /// What it is for.
        what: &'static str,
        /// The pseudo-physical frame.
        pfn: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::MemoryTooSmall { what, needed, pages } => write!(
                f,
                "memory: {pages} pages are too few, {needed} are needed up to and with the {what}"
            ),
            LayoutError::WindowTooSmall { virt_base, needed, window } => write!(
                f,
                "VIRT_BASE {virt_base:#x}: {needed} pages are to be mapped, there are addresses for {window}"
            ),
            LayoutError::CommandLine { len, most } => {
                write!(f, "cmdline: {len} bytes or a NUL inside; at most {most} bytes of text fit")
            }
            LayoutError::NoMachineFrame { what, pfn } => {
                write!(f, "the {what} at pfn {pfn:#x} has no machine frame")
            }
        }
    }
}

impl core::error::Error for LayoutError {}
