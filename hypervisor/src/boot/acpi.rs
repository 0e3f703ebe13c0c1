//! What the ACPI tables say: how many processors there are, and where a timer of known rate is.

use crate::memory::direct_map;
use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    /// Processors that may be used.
    pub processors: usize,
    /// Port of the power-management timer (3.579545 MHz, ACPI 6.5, 4.8.3.3).
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
        // SAFETY: firmware tables lie in reported regions, all of which the direct map covers.
        unsafe { PhysicalMapping::new(physical, address, size, size, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables; a machine without them counts as one processor without that timer.
pub fn read(rsdp: Option<u64>) -> Tables {
    let mut found = Tables { processors: 1, pm_timer: None };
    let Some(rsdp) = rsdp else {
        log::warn!("acpi: the firmware names no root pointer");
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
        let usable = madt.get().entries().filter(|entry| match entry {
            MadtEntry::LocalApic(apic) => apic.flags & 1 != 0,
            MadtEntry::LocalX2Apic(apic) => apic.flags & 1 != 0,
            _ => false,
        });
        found.processors = usable.count().max(1);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>()
        && let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == AddressSpace::SystemIo
    {
        found.pm_timer = u16::try_from(timer.address).ok();
    }
    found
}
