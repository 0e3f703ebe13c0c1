//! An ELF kernel without what its loader does not need.
//!
//! A kernel's file has holes for alignment, sections for debuggers, and its zeroed data as
//! zeros. The boot disk is read by firmware, slowly, so what goes there has the loadable segments
//! without the zeros at their ends, the notes, and nothing else.

use anyhow::{Context, Result};
use object::LittleEndian as Little;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64, SHN_UNDEF};
use object::pod;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Strips a kernel to its loadable segments and notes.
pub(super) fn strip_elf(file: &[u8]) -> Result<Vec<u8>> {
    let mut header = *FileHeader64::<Little>::parse(file)?;
    let kept: Vec<&ProgramHeader64<Little>> = header
        .program_headers(Little, file)?
        .iter()
        .filter(|segment| matches!(segment.p_type(Little), PT_LOAD | PT_NOTE))
        .collect();
    let head = size_of::<FileHeader64<Little>>();
    let table = kept.len() * size_of::<ProgramHeader64<Little>>();
    let mut headers = Vec::new();
    let mut contents: Vec<u8> = Vec::new();
    for segment in kept {
        let data = segment.data(Little, file).ok().context("a segment is not in the file")?;
        // What a loader fills with zeros need not be in the file. A note is read from it.
        let length = match segment.p_type(Little) {
            PT_LOAD => data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
            _ => data.len(),
        };
        let mut segment = *segment;
        segment.p_offset.set(Little, (head + table + contents.len()) as u64);
        segment.p_filesz.set(Little, length as u64);
        contents.extend_from_slice(&data[..length]);
        contents.resize(contents.len().next_multiple_of(8), 0);
        headers.push(segment);
    }
    header.e_phoff.set(Little, head as u64);
    header.e_phnum.set(Little, u16::try_from(headers.len())?);
    header.e_shoff.set(Little, 0);
    header.e_shnum.set(Little, 0);
    header.e_shstrndx.set(Little, SHN_UNDEF);
    Ok([pod::bytes_of(&header), pod::bytes_of_slice(&headers), &contents].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::{PT_GNU_STACK, ProgramType};

    fn segment(kind: ProgramType, offset: u64, file: u64, memory: u64) -> ProgramHeader64<Little> {
        let mut segment: ProgramHeader64<Little> = *pod::from_bytes(&[0; 56]).unwrap().0;
        segment.p_type.set(Little, kind);
        segment.p_offset.set(Little, offset);
        segment.p_paddr.set(Little, 0x10_0000 + offset);
        segment.p_filesz.set(Little, file);
        segment.p_memsz.set(Little, memory);
        segment
    }

    fn elf(segments: &[ProgramHeader64<Little>]) -> Vec<u8> {
        let mut file = vec![0; 0x2000];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 2;
        file[18] = 62;
        file[20] = 1;
        file[32] = 64;
        file[0x34] = 64;
        file[0x36] = 56;
        file[0x38] = segments.len() as u8;
        let table = pod::bytes_of_slice(segments);
        file[64..64 + table.len()].copy_from_slice(table);
        file[0x1000..0x1005].copy_from_slice(b"\x01two\x02");
        file[0x1800..0x1804].copy_from_slice(b"note");
        file
    }

    #[test]
    fn what_a_loader_sees_stays_the_same() {
        let file = elf(&[
            segment(PT_LOAD, 0x1000, 0x700, 0x900),
            segment(PT_GNU_STACK, 0, 0, 0),
            segment(PT_LOAD, 0x1100, 0x100, 0x100),
            segment(PT_NOTE, 0x1800, 8, 8),
        ]);
        let stripped = strip_elf(&file).unwrap();
        assert!(stripped.len() < 300, "{}", stripped.len());
        let header = FileHeader64::<Little>::parse(&*stripped).unwrap();
        let segments = header.program_headers(Little, &*stripped).unwrap();
        let seen: Vec<_> = segments
            .iter()
            .map(|s| (s.p_paddr(Little), s.p_memsz(Little), s.data(Little, &*stripped).unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                (0x10_1000, 0x900, &b"\x01two\x02"[..]),
                (0x10_1100, 0x100, b""),
                (0x10_1800, 8, b"note\0\0\0\0"),
            ]
        );
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(strip_elf(b"\x7fELF").is_err());
        assert!(strip_elf(&elf(&[segment(PT_LOAD, 0x1f00, 0x200, 0x200)])).is_err());
    }
}
