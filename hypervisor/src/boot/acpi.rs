//! ACPI tables: the CPUs, the I/O APIC, and the power-management timer.

use crate::arch::percpu::MAX_CPUS;
use crate::memory::direct_map;
use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;
use core::ptr::NonNull;

/// What the hypervisor uses of the ACPI tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// APIC ids of the enabled CPUs.
    pub apic_ids: ArrayVec<u32, MAX_CPUS>,
    /// The I/O APIC that the first serial port is connected to.
    pub io_apic: Option<IoApic>,
    /// I/O port of the power-management timer (3.579545 MHz, ACPI 6.5, 4.8.3.3).
    pub pm_timer: Option<u16>,
}

/// An I/O APIC, and its input for the first serial port.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Physical address of the registers.
    pub address: u64,
    /// Input that the interrupt of the first serial port arrives at.
    pub serial_input: u32,
}

/// ISA interrupt of the first serial port. It is also the global system interrupt, unless the MADT has
/// an override (ACPI 6.5, 5.2.12.5).
const SERIAL_IRQ: u8 = 4;

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
        read_madt(madt.get().entries(), &mut found);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>()
        && let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == AddressSpace::SystemIo
    {
        found.pm_timer = u16::try_from(timer.address).ok();
    }
    found
}

/// Reads the CPUs and I/O APICs from the MADT.
fn read_madt<'a>(entries: impl Iterator<Item = MadtEntry<'a>>, found: &mut Tables) {
    const ENABLED: u32 = 1;
    let mut serial_input = u32::from(SERIAL_IRQ);
    let mut io_apics: ArrayVec<(u64, u32), 16> = ArrayVec::new();
    for entry in entries {
        let apic_id = match entry {
            MadtEntry::LocalApic(apic) if apic.flags & ENABLED != 0 => Some(apic.apic_id.into()),
            MadtEntry::LocalX2Apic(apic) if apic.flags & ENABLED != 0 => Some(apic.x2apic_id),
            MadtEntry::InterruptSourceOverride(over) if over.irq == SERIAL_IRQ => {
                serial_input = over.global_system_interrupt;
                None
            }
            MadtEntry::IoApic(apic) => {
                let found = (apic.io_apic_address.into(), apic.global_system_interrupt_base);
                // If there are more: ISA interrupts are connected to one of the first.
                let _ = io_apics.try_push(found);
                None
            }
            _ => None,
        };
        if let Some(apic_id) = apic_id
            && !found.apic_ids.contains(&apic_id)
            && found.apic_ids.try_push(apic_id).is_err()
        {
            log::warn!("acpi: more than {MAX_CPUS} CPUs; the rest is not used");
            break;
        }
    }
    let serves = |&&(_, base): &&(u64, u32)| base <= serial_input;
    found.io_apic = io_apics
        .iter()
        .filter(serves)
        .max_by_key(|(_, base)| *base)
        .map(|&(address, base)| IoApic { address, serial_input: serial_input - base });
}
