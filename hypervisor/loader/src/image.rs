//! The hypervisor's ELF file: a position-independent program whose only relocations add the address
//! where it is loaded.

use crate::memory::{Frames, Mappings};
use bootloader_api::BootloaderConfig;
use elf::abi::{PF_W, PF_X, PT_LOAD, R_X86_64_RELATIVE};
use elf::endian::LittleEndian;
use elf::{ElfBytes, segment::ProgramHeader};
use x86_64::structures::paging::PageTableFlags;

const PAGE: u64 = 4096;

/// An ELF file.
pub(crate) struct Image<'a>(ElfBytes<'a, LittleEndian>);

impl<'a> Image<'a> {
    /// Parses the file.
    pub(crate) fn parse(file: &'a [u8]) -> Image<'a> {
        Image(ElfBytes::minimal_parse(file).expect("the hypervisor is an ELF file"))
    }

    /// The mappings that the hypervisor asks for.
    pub(crate) fn config(&self) -> BootloaderConfig {
        let header = self.0.section_header_by_name(".bootloader-config").expect("sections");
        let (bytes, _) = self.0.section_data(&header.expect("a configuration")).expect("its bytes");
        BootloaderConfig::deserialize(bytes).expect("a configuration of this version")
    }

    /// Loads the image to an address. Returns the address of its entry.
    pub(crate) fn load(&self, base: u64, mappings: &mut Mappings, frames: &mut Frames) -> u64 {
        let end = self.segments().map(|s| s.p_vaddr + s.p_memsz).max().expect("segments");
        let memory = frames.take(end);
        for segment in self.segments() {
            let content = self.0.segment_data(&segment).expect("the segment's bytes");
            memory[segment.p_vaddr as usize..][..content.len()].copy_from_slice(content);
        }
        self.relocate(base, memory);
        let phys = memory.as_ptr() as u64;
        for segment in self.segments() {
            let start = segment.p_vaddr & !(PAGE - 1);
            let end = (segment.p_vaddr + segment.p_memsz).next_multiple_of(PAGE);
            mappings.map(base + start, phys + start, end - start, flags(&segment), frames);
        }
        base + self.0.ehdr.e_entry
    }

    fn segments(&self) -> impl Iterator<Item = ProgramHeader> {
        let all = self.0.segments().expect("segments");
        all.iter().filter(|segment| segment.p_type == PT_LOAD)
    }

    fn relocate(&self, base: u64, memory: &mut [u8]) {
        let header = self.0.section_header_by_name(".rela.dyn").expect("sections");
        let Some(header) = header else { return };
        for relocation in self.0.section_data_as_relas(&header).expect("relocations") {
            assert!(relocation.r_type == R_X86_64_RELATIVE, "relocation {}", relocation.r_type);
            let value = base.wrapping_add_signed(relocation.r_addend);
            memory[relocation.r_offset as usize..][..8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

fn flags(segment: &ProgramHeader) -> PageTableFlags {
    let mut flags = PageTableFlags::PRESENT;
    flags.set(PageTableFlags::WRITABLE, segment.p_flags & PF_W != 0);
    flags.set(PageTableFlags::NO_EXECUTE, segment.p_flags & PF_X == 0);
    flags
}
