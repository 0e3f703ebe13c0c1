//! Boot: from the entry by the boot loader to the start of the guests.
#![expect(
    unsafe_code,
    reason = "memory of the boot loader, the switch of page tables, the start of APs"
)]

pub mod acpi;
pub mod archive;
pub mod build_domain;
pub mod patches;
pub mod smp;
pub mod start;

use crate::arch::{apic, control, flaws, fpu, io_apic, layout, percpu, port, spec_ctrl};
use crate::memory::early::{EarlyFrames, Region, RegionKind};
use crate::memory::paging;
use crate::memory::{self, direct_map, isolation};
use crate::time::kvm_clock;
use crate::{console, time};
use archive::Archive;
use arrayvec::ArrayVec;
use bootloader_api::config::Mapping;
use bootloader_api::info::MemoryRegionKind;
use bootloader_api::{BootInfo, BootloaderConfig};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_image::Isolation;
use raw_cpuid::CpuId;

/// Requests to the boot loader: all its mappings lie in the L4 slots that the ABI reserves for the
/// hypervisor.
static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = 128 * 1024;
    config.mappings.kernel_base = Mapping::FixedAddress(layout::IMAGE_START);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(layout::DIRECT_MAP_START));
    config.mappings.dynamic_range_start = Some(layout::LOADER_START);
    config.mappings.dynamic_range_end = Some(layout::IMAGE_START - PAGE_SIZE);
    config
};

bootloader_api::entry_point!(entry, config = &CONFIG);

/// Description of the machine, copied from the boot loader's report, whose mappings don't last.
pub struct MachineInfo {
    /// The memory map.
    pub regions: ArrayVec<Region, 256>,
    /// Physical address and size in bytes of the boot archive.
    pub archive: Option<(u64, u64)>,
    /// Contents of the ACPI tables.
    pub tables: acpi::Tables,
    /// Optional protections of the boot CPU.
    pub protections: control::Protections,
}

static MACHINE: spin::Once<MachineInfo> = spin::Once::new();

fn entry(info: &'static mut BootInfo) -> ! {
    console::serial::init();
    console::log::init();
    time::clock::start();
    log::info!("Pinfold {} starts", env!("CARGO_PKG_VERSION"));
    log::info!("image base={:#x} bytes={:#x}", info.kernel_image_offset, info.kernel_len);
    port::mask_legacy_interrupts();
    let protections = control::set_up();
    flaws::detect();
    log::info!(
        "cpu smep={} smap={} umip={} physical_bits={}",
        protections.smep,
        protections.smap,
        protections.umip,
        protections.physical_bits
    );

    let mut regions = ArrayVec::new();
    for region in info.memory_regions.iter() {
        let kind = match region.kind {
            MemoryRegionKind::Usable => RegionKind::Usable,
            MemoryRegionKind::Bootloader => RegionKind::BootLoader,
            _ => RegionKind::Other,
        };
        if regions.try_push(Region { start: region.start, end: region.end, kind }).is_err() {
            log::warn!(
                "memory map has more than {} regions; the rest is left unused",
                regions.len()
            );
            break;
        }
    }
    let archive = info.ramdisk_addr.into_option().map(|address| {
        let physical = paging::translate_contiguous(address, info.ramdisk_len)
            .expect("the archive is physically contiguous");
        (physical, info.ramdisk_len)
    });
    // The boot loader maps physical memory at the address of the direct map.
    let tables = acpi::read(info.rsdp_addr.into_option());
    // SAFETY: these are the regions that the boot loader reports; it has mapped them.
    let mut frames = unsafe { EarlyFrames::new(&regions) };
    if is_virtual_machine()
        && let Some(found) = console::serial::FoundConsole::find()
    {
        let physical = frames.alloc(console::serial::SHARED_BYTES, PAGE_SIZE);
        // SAFETY: the frames stay the hypervisor's; the direct map has them at the same address on the
        // boot loader's tables and on its own.
        let console = unsafe { found.open(physical, direct_map::address(physical)) };
        if let Some(console) = console {
            console::serial::use_console(console);
            log::info!("console virtio");
        }
    }
    // SAFETY: the boot loader reports the address, and doesn't list the file as usable memory.
    let kernel_elf = unsafe { paging::kernel_elf(info.kernel_addr, info.kernel_len) };
    let root = paging::build(
        &mut frames,
        &regions,
        kernel_elf,
        info.kernel_image_offset,
        tables.apic_ids.len().max(1),
        tables.io_apic.map(|io_apic| io_apic.address),
    );
    memory::reserve_tables(frames, &regions, root);
    MACHINE.call_once(|| MachineInfo { regions, archive, tables, protections });
    // SAFETY: the tables map the running image at its address, and a stack that is unused so far.
    unsafe { paging::switch(root, layout::stack_top(0), init_on_own_tables) }
}

/// Whether CPUID says that a hypervisor is below.
fn is_virtual_machine() -> bool {
    CpuId::new().get_feature_info().is_some_and(|features| features.has_hypervisor())
}

/// The second part of the boot, on the hypervisor's page tables and stack.
extern "C" fn init_on_own_tables() -> ! {
    // SAFETY: this is the boot CPU, for the first and only time.
    unsafe { smp::init_cpu(0) };
    pinfold_emulate::warm_up();
    let machine = MACHINE.get().expect("entry fills it in");
    // SAFETY: `paging::build` mapped the registers there.
    unsafe { apic::init(layout::APIC_REGISTERS, machine.tables.needs_x2apic) };
    // SAFETY: `init_cpu` installed the record.
    unsafe { percpu::set_online(0, apic::id()) };
    log::info!(
        "apic mode={} id={}",
        if apic::is_x2apic() { "x2apic" } else { "xapic" },
        apic::id()
    );
    let record = paging::translate(kvm_clock::record_address());
    // SAFETY: the physical address is that of the record; this is the boot CPU.
    let kvm_clock = record.and_then(|physical| unsafe { kvm_clock::read(physical) });
    time::calibrate(machine.tables.pm_timer, kvm_clock);
    memory::init(&machine.regions, machine.protections.physical_bits);
    let archive = Archive::open(machine);
    let manifest = archive.manifest();
    isolation::decide(manifest.as_ref().map_or(Isolation::Auto, |m| m.isolate_page_tables));
    let mitigations = spec_ctrl::set_up(flaws::plan());
    patches::apply(&mitigations);
    if mitigations.clear_fpu_pointers {
        fpu::overwrite_pointers_at_loads();
    }
    flaws::report(&mitigations);
    smp::start_aps(machine);
    isolation::build_guest_roots();
    if let Some(io_apic) = machine.tables.io_apic {
        // The registers may begin in the middle of the page.
        let registers = layout::IO_APIC_REGISTERS + io_apic.address % PAGE_SIZE;
        // An I/O APIC can't address the others.
        let mut ids = percpu::online().iter().map(percpu::apic_id);
        if let Some(id) = ids.find_map(io_apic::Destination::new) {
            // SAFETY: `paging::build` mapped the page there; only the boot CPU comes here.
            unsafe { io_apic::route_serial(registers, io_apic.serial_input, id) };
            console::serial::enable_interrupts();
        }
    }
    start::start_all(&archive, manifest)
}
