//! What the ACPI tables say: how many CPUs there are, and where a timer of known rate is.

use crate::arch::percpu::MAX_CPUS;
use crate::memory::direct_map;
use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;
use core::ptr::NonNull;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Identifiers of the APIC ids that may be used.
    pub processors: ArrayVec<u32, MAX_CPUS>,
    /// The I/O interrupt controller that serves the legacy interrupts.
    pub io_apic: Option<IoApic>,
    /// Port of the power-management timer (3.579545 MHz, ACPI 6.5, 4.8.3.3).
    pub pm_timer: Option<u16>,
}

/// The I/O interrupt controller, and where on it the first serial port's interrupt arrives.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Input of the first serial port.
    pub serial_input: u32,
}

/// ISA interrupt of the first serial port, and the input that it has unless the tables say
/// otherwise (ACPI 6.5, 5.2.12.5).
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
        // SAFETY: firmware tables lie in reported regions, all of which the direct map covers.
        unsafe { PhysicalMapping::new(physical, address, size, size, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables; a machine without them counts as one CPU without timer and I/O
/// interrupts. The direct map must be there, the boot loader's or our own.
pub fn read(rsdp: Option<u64>) -> Tables {
    let mut found = Tables::default();
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

fn read_madt<'a>(entries: impl Iterator<Item = MadtEntry<'a>>, found: &mut Tables) {
    const ENABLED: u32 = 1;
    let mut serial_input = u32::from(SERIAL_IRQ);
    let mut io_apics: ArrayVec<(u64, u32), 16> = ArrayVec::new();
    for entry in entries {
        let processor = match entry {
            MadtEntry::LocalApic(apic) if apic.flags & ENABLED != 0 => Some(apic.apic_id.into()),
            MadtEntry::LocalX2Apic(apic) if apic.flags & ENABLED != 0 => Some(apic.x2apic_id),
            MadtEntry::InterruptSourceOverride(over) if over.irq == SERIAL_IRQ => {
                serial_input = over.global_system_interrupt;
                None
            }
            MadtEntry::IoApic(apic) => {
                let place = (apic.io_apic_address.into(), apic.global_system_interrupt_base);
                // More than that: the serial port is on one of the first.
                let _ = io_apics.try_push(place);
                None
            }
            _ => None,
        };
        if let Some(apic_id) = processor
            && !found.processors.contains(&apic_id)
            && found.processors.try_push(apic_id).is_err()
        {
            log::warn!("acpi: more than {MAX_CPUS} processors; the rest is left alone");
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
