//! The report to the hypervisor, and the jump.
#![expect(unsafe_code, reason = "structures at their addresses, the jump")]

use crate::entry::IDENTITY_MAPPED;
use crate::image::Image;
use crate::memory::{Frames, Mappings};
use crate::pvh::{self, Machine};
use bootloader_api::BootInfo;
use bootloader_api::config::Mapping;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind, Optional};
use pinfold_abi::direct_start::{Header, MAGIC};
use x86_64::structures::paging::PageTableFlags;
use zerocopy::FromBytes;

const PAGE: u64 = 4096;
/// Regions of the report: those of the machine, cut where the loader and the payload lie.
const MAX_REGIONS: usize = 80;

/// Loads the hypervisor and starts it.
pub(crate) fn run(start_info: u64) -> ! {
    let machine = Machine::read(start_info);
    let payload = pvh::module_bytes(machine.module);
    let (header, _) = Header::read_from_prefix(payload).expect("the module is too short");
    assert!(header.magic == MAGIC, "the module is no payload");
    assert!(header.payload_bytes().is_some_and(|bytes| bytes <= payload.len() as u64));
    let archive = header.archive().expect("checked with the size");
    let (start, bytes) = machine.module;
    assert!(start.is_multiple_of(PAGE), "the module begins in a page: {start:#x}");

    let mut frames = Frames::new(&machine);
    let mut mappings = Mappings::active();
    let image = Image::parse(&payload[Header::KERNEL as usize..][..header.kernel_bytes as usize]);
    let config = image.config();
    let base = fixed(Some(config.mappings.kernel_base));
    let physical = fixed(config.mappings.physical_memory);
    let dynamic = config.mappings.dynamic_range_start.expect("a range for the rest");

    let entry = image.load(base, &mut mappings, &mut frames);
    let last = machine.regions().filter(|region| region.ram).map(|region| region.end).max();
    let end = last.unwrap_or(0).max(IDENTITY_MAPPED);
    mappings.map_physical_memory(physical, end, &mut frames);
    // The page below the stack stays unmapped.
    let data = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    let stack_bytes = config.kernel_stack_size.next_multiple_of(PAGE);
    let stack = frames.take(stack_bytes).as_ptr() as u64;
    let stack_bottom = dynamic + PAGE;
    mappings.map(stack_bottom, stack, stack_bytes, data, &mut frames);
    let stack_top = stack_bottom + stack_bytes;
    // And one between the stack and the archive.
    let archive_at = stack_top + PAGE;
    mappings.map(archive_at, start + archive, header.archive_bytes, data, &mut frames);

    // Both structures are reached through the mapping of physical memory, which outlives the loader's.
    let map = frames.take((MAX_REGIONS * size_of::<MemoryRegion>()) as u64).as_ptr() as u64;
    let report = frames.take(size_of::<BootInfo>() as u64).as_ptr() as u64;
    let used = [frames.used(), start..(start + bytes).next_multiple_of(PAGE)];
    // SAFETY: the range was just taken for it and is zeroed, which is a valid region each: no bytes,
    // of the first kind. It is mapped there.
    let map: &'static mut [MemoryRegion] = unsafe {
        core::slice::from_raw_parts_mut((physical + map) as *mut MemoryRegion, MAX_REGIONS)
    };
    let count = describe(&machine, &used, map);
    let mut info = BootInfo::new((&mut map[..count]).into());
    info.physical_memory_offset = Optional::Some(physical);
    info.rsdp_addr = if machine.rsdp == 0 { Optional::None } else { Optional::Some(machine.rsdp) };
    info.ramdisk_addr = Optional::Some(archive_at);
    info.ramdisk_len = header.archive_bytes;
    info.kernel_addr = start + Header::KERNEL;
    info.kernel_len = header.kernel_bytes;
    info.kernel_image_offset = base;
    info.kernel_stack_bottom = stack_bottom;
    info.kernel_stack_len = stack_bytes;
    let report = (physical + report) as *mut BootInfo;
    // SAFETY: the frame was just taken for it, and is mapped there.
    unsafe { report.write(info) };
    // SAFETY: the entry takes the address of the report in rdi and never returns; `push` keeps the
    // stack as after a call. All that it uses is mapped.
    unsafe {
        core::arch::asm!(
            "xor ebp, ebp", "mov rsp, {stack}", "push 0", "jmp {entry}",
            stack = in(reg) stack_top, entry = in(reg) entry, in("rdi") report,
            options(noreturn)
        )
    }
}

fn fixed(mapping: Option<Mapping>) -> u64 {
    match mapping {
        Some(Mapping::FixedAddress(address)) => address,
        Some(Mapping::Dynamic) | None => panic!("the hypervisor asks for no fixed address"),
    }
}

/// Writes the memory map: RAM is usable except for its first page and what is used. Returns the number
/// of regions.
fn describe(machine: &Machine, used: &[core::ops::Range<u64>], map: &mut [MemoryRegion]) -> usize {
    let mut count = 0;
    let mut add = |start: u64, end: u64, kind| {
        if start < end {
            map[count] = MemoryRegion { start, end, kind };
            count += 1;
        }
    };
    for region in machine.regions() {
        if !region.ram {
            add(region.start, region.end, MemoryRegionKind::UnknownBios(2));
            continue;
        }
        // Nobody expects memory at address 0. Whole pages only.
        let mut at = region.start.max(PAGE).next_multiple_of(PAGE);
        let end = region.end & !(PAGE - 1);
        loop {
            let inside = used.iter().filter(|range| range.end > at && range.start < end);
            let Some(next) = inside.min_by_key(|range| range.start) else { break };
            add(at, next.start, MemoryRegionKind::Usable);
            add(next.start.max(at), next.end.min(end), MemoryRegionKind::Bootloader);
            at = next.end;
        }
        add(at, end, MemoryRegionKind::Usable);
    }
    count
}
