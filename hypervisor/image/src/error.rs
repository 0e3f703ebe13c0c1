//! Why an image or a layout is refused: a variant for each rule, with the field and the values that
//! break it, and a text for the log.

use alloc::string::String;
use core::fmt;

/// Why a guest image is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// A field of the ELF header has a value that a 64-bit PV kernel can't have.
    Header {
        /// Its name in the ELF specification.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// Something reaches beyond the end of the file.
    Truncated {
        /// What reaches beyond.
        field: &'static str,
        /// Its end in bytes from the start of the file.
        end: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// The ELF structure is inconsistent.
    Malformed {
        /// The part of the file.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no loadable segment.
    NoSegments,
    /// There are too many loadable segments.
    TooManySegments {
        /// Number of segments.
        count: usize,
        /// Most segments that are allowed.
        max: usize,
    },
    /// A segment reaches beyond the end of the file.
    SegmentFile {
        /// Index of the program header.
        index: usize,
        /// Its `p_offset`.
        offset: u64,
        /// Its `p_filesz`.
        filesz: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// A segment has more bytes in the file than in memory.
    SegmentSize {
        /// Index of the program header.
        index: usize,
        /// Its `p_filesz`.
        filesz: u64,
        /// Its `p_memsz`.
        memsz: u64,
    },
    /// A segment lies below the start of the guest's memory.
    SegmentBelow {
        /// Index of the program header.
        index: usize,
        /// Its `p_paddr`.
        paddr: u64,
        /// What is subtracted from it (note PADDR_OFFSET).
        paddr_offset: u64,
    },
    /// The end of a segment overflows the address space.
    SegmentOverflow {
        /// Index of the program header.
        index: usize,
        /// Its `p_paddr`.
        paddr: u64,
        /// Its `p_memsz`.
        memsz: u64,
    },
    /// Two segments overlap.
    SegmentsOverlap {
        /// Index of the program header of the lower one.
        first: usize,
        /// Index of the program header of the higher one.
        second: usize,
        /// First address of both.
        address: u64,
    },
    /// The image is partly at addresses where a guest can't have memory.
    Window {
        /// First address of the guest's memory (note VIRT_BASE).
        virt_base: u64,
        /// First address after the image; `None`: it overflows.
        end: Option<u64>,
    },
    /// An address that must be inside of the image is not.
    Outside {
        /// Name of the note.
        field: &'static str,
        /// The address.
        address: u64,
        /// First address of the image.
        low: u64,
        /// Last address of the image.
        high: u64,
    },
    /// An address that must be page-aligned is not.
    Unaligned {
        /// Name of the note.
        field: &'static str,
        /// The address.
        address: u64,
    },
    /// The image has neither notes nor the section `__xen_guest`: it is no PV kernel.
    NoNotes,
    /// A mandatory note is missing.
    MissingNote {
        /// Its name.
        note: &'static str,
    },
    /// The number in a note has neither 4 nor 8 bytes.
    NoteSize {
        /// The note's name.
        note: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The text of a note is not UTF-8, or has control characters.
    NoteText {
        /// The note's name.
        note: &'static str,
    },
    /// A note occurs twice with different values.
    NoteConflict {
        /// Its name.
        note: &'static str,
    },
    /// The value of a note is not allowed.
    NoteValue {
        /// Its name.
        note: &'static str,
        /// Its value, cut to 40 characters.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The kernel requires an unknown feature.
    UnknownFeature {
        /// Its name, cut to 40 characters.
        name: String,
    },
    /// The kernel requires a feature that PV guests don't have here.
    UnsupportedFeature {
        /// Its name.
        name: &'static str,
    },
    /// The manifest wants the hardware container, and the kernel doesn't declare that it can run there.
    NoContainer {
        /// The container's name in the manifest.
        container: &'static str,
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
            ImageError::TooManySegments { count, max } => {
                write!(f, "e_phnum: {count} loadable segments; at most {max} are taken")
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
                write!(f, "the note {note} occurs twice with different values")
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
            ImageError::NoContainer { container } => write!(
                f,
                "container `{container}` is for kernels whose note FEATURES has `supervisor_mode_kernel`; this one can only run in ring 3"
            ),
        }
    }
}

impl core::error::Error for ImageError {}

/// Why a guest's first address space can't be laid out, or described to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The domain has less memory than its first address space needs.
    MemoryTooSmall {
        /// The first element that doesn't fit.
        what: &'static str,
        /// Number of pages needed up to its end.
        needed: u64,
        /// Number of pages of the domain.
        pages: u64,
    },
    /// The first address space does not fit between VIRT_BASE and the end of its half.
    WindowTooSmall {
        /// First address.
        virt_base: u64,
        /// Number of pages needed.
        needed: u64,
        /// Number of pages between `virt_base` and the end of its half.
        window: u64,
    },
    /// The command line does not fit in the start-of-day page.
    CommandLine {
        /// Its length in bytes.
        len: usize,
        /// Most bytes that fit.
        max: usize,
    },
    /// A pfn of the layout has no machine frame.
    NoMachineFrame {
        /// What is at the pfn.
        what: &'static str,
        /// The pfn.
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
            LayoutError::CommandLine { len, max } => {
                write!(f, "cmdline: {len} bytes or a NUL inside; at most {max} bytes of text fit")
            }
            LayoutError::NoMachineFrame { what, pfn } => {
                write!(f, "the {what} at pfn {pfn:#x} has no machine frame")
            }
        }
    }
}

impl core::error::Error for LayoutError {}
