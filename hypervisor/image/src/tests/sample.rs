//! Builds kernel images for tests.

use alloc::vec::Vec;
use pinfold_abi::elfnote::Note;

/// VIRT_BASE of the samples.
pub(crate) const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

/// A loadable segment.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) paddr: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) memsz: u64,
}

/// The contents of an image. [`Sample::bytes`] builds the file as a linker would.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) loads: Vec<Load>,
    /// Contents of the PT_NOTE segment; none when empty.
    pub(crate) notes: Vec<u8>,
    /// Sections besides the table of names: name, type, contents.
    pub(crate) sections: Vec<(&'static str, u32, Vec<u8>)>,
}

/// One note of owner `Xen`.
pub(crate) fn note(kind: Note, desc: &[u8]) -> Vec<u8> {
    raw_note(b"Xen\0", kind as u32, desc)
}

/// A note whose contents are eight bytes.
pub(crate) fn number(kind: Note, value: u64) -> Vec<u8> {
    note(kind, &value.to_le_bytes())
}

pub(crate) fn raw_note(owner: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [owner.len() as u32, desc.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    for part in [owner, desc] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The notes of a small kernel.
pub(crate) fn notes() -> Vec<u8> {
    [
        number(Note::Entry, VIRT_BASE + 0x10_0010),
        number(Note::VirtBase, VIRT_BASE),
        number(Note::HypercallPage, VIRT_BASE + 0x10_1000),
        number(Note::PaddrOffset, 0),
        note(Note::XenVersion, b"xen-3.0\0"),
        note(Note::GuestOs, b"sample\0"),
        note(Note::Loader, b"generic\0"),
        note(Note::Features, b"!writable_page_tables|pae_pgdir_above_4gb\0"),
        number(Note::HvStartLow, 0xffff_8000_0000_0000),
    ]
    .concat()
}

impl Default for Sample {
    /// Two segments at 1 MiB: text of two pages, data of 100 bytes with a bss behind it.
    fn default() -> Sample {
        Sample {
            loads: alloc::vec![
                Load { paddr: 0x10_0000, data: alloc::vec![0x90; 0x2000], memsz: 0x2000 },
                Load { paddr: 0x10_2000, data: alloc::vec![0x55; 100], memsz: 0x1800 },
            ],
            notes: notes(),
            sections: Vec::new(),
        }
    }
}

impl Sample {
    pub(crate) fn with_notes(notes: Vec<u8>) -> Sample {
        Sample { notes, ..Sample::default() }
    }

    pub(crate) fn with_load(paddr: u64, data: usize, memsz: u64) -> Sample {
        let mut sample = Sample::default();
        sample.loads.push(Load { paddr, data: alloc::vec![1; data], memsz });
        sample
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let has_notes = !self.notes.is_empty();
        let headers = self.loads.len() + usize::from(has_notes);
        let mut data_at = 64 + 56 * headers;
        let (mut table, mut data) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut header = |kind: u32, paddr: u64, contents: &[u8], memsz: u64| {
            table.extend(kind.to_le_bytes());
            table.extend(7u32.to_le_bytes());
            for field in [
                data_at as u64,
                VIRT_BASE.wrapping_add(paddr),
                paddr,
                contents.len() as u64,
                memsz,
                4,
            ] {
                table.extend(field.to_le_bytes());
            }
            data.extend(contents);
            data_at += contents.len();
        };
        for load in &self.loads {
            header(1, load.paddr, &load.data, load.memsz);
        }
        if has_notes {
            header(4, 0, &self.notes, self.notes.len() as u64);
        }
        let mut file = Vec::new();
        file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(2u16.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        // e_shoff is filled in below.
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64, 56, headers as u16, 64, 0, 0] {
            file.extend(u16::to_le_bytes(half));
        }
        file.extend(table);
        file.extend(data);
        if !self.sections.is_empty() {
            self.add_sections(&mut file);
        }
        file
    }

    fn add_sections(&self, file: &mut Vec<u8>) {
        let mut names = alloc::vec![0];
        let mut table = alloc::vec![0u8; 64];
        let mut all = self.sections.clone();
        all.push((".shstrtab", 3, Vec::new()));
        for (name, kind, contents) in &all {
            let name_at = names.len() as u32;
            names.extend(name.as_bytes());
            names.push(0);
            let contents = if *kind == 3 { &names } else { contents };
            table.extend(name_at.to_le_bytes());
            table.extend(kind.to_le_bytes());
            for field in [0, 0, file.len() as u64, contents.len() as u64] {
                table.extend(field.to_le_bytes());
            }
            table.extend([0; 8]);
            table.extend(4u64.to_le_bytes());
            table.extend([0; 8]);
            file.extend(contents);
        }
        let at = file.len() as u64;
        file.extend(table);
        file[0x28..0x30].copy_from_slice(&at.to_le_bytes());
        let count = all.len() as u16 + 1;
        file[0x3c..0x3e].copy_from_slice(&count.to_le_bytes());
        file[0x3e..0x40].copy_from_slice(&(count - 1).to_le_bytes());
    }
}
