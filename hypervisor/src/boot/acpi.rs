//! ACPI tables: the CPUs, the I/O APIC, and the power-management timer.

use crate::arch::apic;
use crate::arch::percpu::MAX_CPUS;
use crate::memory::direct_map;
use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::Madt;
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;
use core::ptr::NonNull;
use pinfold_hardware::madt::{self, IoApic};

/// What the hypervisor uses of the ACPI tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// APIC ids of the enabled CPUs.
    pub apic_ids: ArrayVec<u32, MAX_CPUS>,
    /// Some of these ids can be addressed in x2APIC mode only.
    pub needs_x2apic: bool,
    /// The I/O APIC that the first serial port is connected to.
    pub io_apic: Option<IoApic>,
    /// I/O port of the power-management timer (3.579545 MHz, ACPI 6.5, 4.8.3.3).
    pub pm_timer: Option<u16>,
}

#[derive(Clone)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(
        &self,
        physical: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let address = direct_map::address(physical as u64) as *mut T;
        let address = NonNull::new(address).expect("the direct map is not at 0");
        // SAFETY: ACPI tables lie in regions of the memory map, all of which the direct map covers.
        unsafe { PhysicalMapping::new(physical, address, size, size, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables. Without them, the machine is used with one CPU, no power-management timer and no
/// I/O APIC. The direct map must be mapped, by the boot loader or by the hypervisor.
pub fn read(rsdp: Option<u64>) -> Tables {
    let mut found = Tables::default();
    let Some(rsdp) = rsdp else {
        log::warn!("acpi: the firmware reports no RSDP");
        return found;
    };
    // SAFETY: the boot loader reports the address that the firmware gave it.
    let tables = match unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) } {
        Ok(tables) => tables,
        Err(error) => {
            log::warn!("acpi: tables are unreadable: {error:?}");
            return found;
        }
    };
    if let Ok(madt) = tables.find_table::<Madt>() {
        read_madt(&madt, &mut found);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>()
        && let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == AddressSpace::SystemIo
    {
        found.pm_timer = u16::try_from(timer.address).ok();
    }
    found
}

/// Bytes of the MADT before its entries (ACPI 6.5, table 5.19).
const MADT_HEADER: usize = size_of::<Madt>();

/// Reads the CPUs and I/O APICs from the MADT.
fn read_madt(madt: &PhysicalMapping<DirectMap, Madt>, found: &mut Tables) {
    let start = madt.virtual_start().as_ptr().cast::<u8>();
    let bytes = madt.get().header.length as usize;
    // SAFETY: `AcpiTables` has checked the sum of so many bytes; the direct map covers them.
    let table = unsafe { core::slice::from_raw_parts(start, bytes) };
    let supported = apic::is_x2apic_supported();
    let largest_id = if supported { madt::LARGEST_X2APIC_ID } else { madt::LARGEST_XAPIC_ID };
    let entries = table.get(MADT_HEADER..).unwrap_or(&[]);
    let read = madt::Madt::<MAX_CPUS>::read(entries, largest_id);
    found.needs_x2apic = read.needs_x2apic();
    if let Some(at) = read.malformed_at {
        log::warn!(
            "acpi: the MADT's entry at {} is malformed; the rest is not used",
            MADT_HEADER + at
        );
    }
    if read.excess != 0 {
        log::warn!("acpi: more than {MAX_CPUS} CPUs; {} are not used", read.excess);
    }
    if read.unreachable != 0 {
        log::warn!("acpi: {} CPUs need x2APIC mode, which the CPU lacks", read.unreachable);
    }
    found.apic_ids = read.apic_ids;
    found.io_apic = read.io_apic;
}
