//! What QEMU reports: memory, module, ACPI (Xen's `public/arch-x86/hvm/start_info.h`).
#![expect(unsafe_code, reason = "reads structures at physical addresses")]

use crate::entry::IDENTITY_MAPPED;
use zerocopy::FromBytes;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// Memory regions that are read; QEMU reports a dozen.
const MAX_REGIONS: usize = 64;

/// `struct hvm_start_info`, version 1.
#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    _flags: u32,
    modules: u32,
    module_list: u64,
    _command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    _reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct Module {
    address: u64,
    bytes: u64,
    _command_line: u64,
    _reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    _reserved: u32,
}

/// `XEN_HVM_MEMMAP_TYPE_RAM`.
const RAM: u32 = 1;

/// A range of physical memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Region {
    /// First byte.
    pub(crate) start: u64,
    /// End, exclusive.
    pub(crate) end: u64,
    /// Free RAM.
    pub(crate) ram: bool,
}

/// The machine, copied from QEMU's structures.
pub(crate) struct Machine {
    regions: [Region; MAX_REGIONS],
    count: usize,
    /// Address and size in bytes of the module.
    pub(crate) module: (u64, u64),
    /// Address of ACPI's root pointer; 0 if there is none.
    pub(crate) rsdp: u64,
}

impl Machine {
    /// Reads QEMU's structures.
    pub(crate) fn read(start_info: u64) -> Machine {
        let info: StartInfo = read(start_info, 0);
        assert!(info.magic == MAGIC && info.version >= 1, "no PVH start info with a memory map");
        assert!(info.modules == 1, "{} modules instead of one (-initrd)", info.modules);
        let module: Module = read(info.module_list, 0);
        let mut machine = Machine {
            regions: [Region::default(); MAX_REGIONS],
            count: (info.memory_map_entries as usize).min(MAX_REGIONS),
            module: (module.address, module.bytes),
            rsdp: info.rsdp,
        };
        for (index, region) in machine.regions.iter_mut().take(machine.count).enumerate() {
            let entry: MapEntry = read(info.memory_map, index);
            let end = entry.address.saturating_add(entry.bytes);
            *region = Region { start: entry.address, end, ram: entry.kind == RAM };
        }
        machine
    }

    /// The memory map.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> {
        self.regions.iter().take(self.count).copied()
    }
}

/// The payload's bytes.
pub(crate) fn module_bytes((address, bytes): (u64, u64)) -> &'static [u8] {
    assert!(address != 0 && address.checked_add(bytes).is_some_and(|end| end <= IDENTITY_MAPPED));
    // SAFETY: the range is identity-mapped. QEMU put the module there; it lies outside of the frames
    // that are handed out (`memory::Frames`), and nothing else writes to it.
    unsafe { core::slice::from_raw_parts(address as *const u8, bytes as usize) }
}

/// Reads the element of an array at a physical address.
fn read<T: FromBytes>(address: u64, index: usize) -> T {
    let bytes = size_of::<T>() as u64;
    let at = address + index as u64 * bytes;
    assert!(address != 0 && at + bytes <= IDENTITY_MAPPED, "a structure lies at {at:#x}");
    // SAFETY: the address is identity-mapped, the machine's memory or not; any bytes are a T.
    unsafe { (at as *const T).read_unaligned() }
}
