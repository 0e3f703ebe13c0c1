//! Guest images that must be refused.

use crate::test::case::Case;
use crate::test::corrupt_image::{Corruption, Field};
use crate::test::spec::{End, Spec};
use pinfold_abi::elfnote::Note;
use pinfold_image::size::Size;

/// Offsets in the ELF header.
mod header {
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const TYPE: usize = 16;
    pub(super) const MACHINE: usize = 18;
    pub(super) const PROGRAM_HEADERS: usize = 56;
}

/// Every kind of bad image in one boot, and a good one that must start all the same.
pub(super) fn bad_images() -> Case {
    use Corruption::{Header, Program};
    let most = u64::MAX - 0xfff;
    let bad = [
        ("cut-header", Corruption::CutHeader, "ELF header"),
        ("cut-file", Corruption::CutFile, "headers"),
        ("magic", Header(0, 4, 0), "EI_MAG"),
        ("32-bit", Header(header::CLASS, 1, 1), "EI_CLASS"),
        ("big-endian", Header(header::DATA, 1, 2), "EI_DATA"),
        ("relocatable", Header(header::TYPE, 2, 1), "e_type"),
        ("arm", Header(header::MACHINE, 2, 0xb7), "e_machine"),
        ("no-segments", Header(header::PROGRAM_HEADERS, 2, 0), "e_phnum"),
        ("offset-past-end", Program(0, Field::Offset, 1 << 40), "p_offset"),
        ("offset-overflow", Program(0, Field::Offset, most), "p_offset"),
        ("file-over-memory", Program(0, Field::MemorySize, 1), "p_filesz"),
        ("address-overflow", Program(0, Field::Paddr, most), "p_paddr"),
        ("overlap", Corruption::Overlap, "p_paddr"),
        ("beyond-window", Program(2, Field::MemorySize, 1 << 40), "VIRT_BASE"),
        ("beyond-memory", Program(2, Field::MemorySize, 1 << 30), "memory"),
        ("no-entry", Corruption::ForgetNote(Note::Entry as u32), "ENTRY"),
        ("entry-outside", Corruption::ZeroNote(Note::Entry as u32), "ENTRY"),
        ("not-a-guest", Corruption::ForeignNotes, "notes"),
    ];
    let mut guests: Vec<Spec> = bad
        .into_iter()
        .map(|(name, corruption, field)| Spec {
            corruption: Some(corruption),
            ..Spec::new("hello").named(name).ends(End::Refused(field))
        })
        .collect();
    let greedy = Spec::new("hello").named("too-much-memory").with_memory(Size(64 << 30));
    guests.push(greedy.ends(End::Refused("memory")));
    guests.push(Spec::new("hello"));
    Case::new(
        "bad-images",
        "each kind of bad image is refused by name, and a good one starts",
        guests,
    )
}
