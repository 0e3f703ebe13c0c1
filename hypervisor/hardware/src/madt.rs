//! Processors and I/O APICs in the MADT, the "Multiple APIC Description Table" (ACPI 6.5, 5.2.12).
//!
//! The table comes from the firmware, and may be wrong: an entry whose length is less than its
//! type needs, or more than is left, ends the reading, and what came before it is used.

use arrayvec::ArrayVec;

/// ISA interrupt of the first serial port. It is also the global system interrupt, unless the table has
/// an override (ACPI 6.5, 5.2.12.5).
const SERIAL_IRQ: u8 = 4;
/// I/O APICs that are considered. If there are more: ISA interrupts are connected to one of the
/// first.
const IO_APICS: usize = 16;

/// Flags of a processor: it can be used now (ACPI 6.5, table 5.23).
const ENABLED: u32 = 1;

/// The largest id of a local APIC that the registers in memory can address: 255 means all processors.
pub const LARGEST_XAPIC_ID: u32 = 254;
/// The same for x2APIC mode.
pub const LARGEST_X2APIC_ID: u32 = u32::MAX - 1;

/// An I/O APIC, and its input for the first serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of the registers.
    pub address: u64,
    /// Input that the interrupt of the first serial port arrives at.
    pub serial_input: u32,
}

/// What the table says, with room for so many processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Madt<const CPUS: usize> {
    /// APIC ids of the enabled processors, in the table's order, each once.
    pub apic_ids: ArrayVec<u32, CPUS>,
    /// The I/O APIC that the first serial port is connected to.
    pub io_apic: Option<IoApic>,
    /// Enabled processors that there was no room for.
    pub excess: usize,
    /// Enabled processors whose id is larger than can be addressed.
    pub unreachable: usize,
    /// Offset in the table's entries of the first one that is malformed.
    pub malformed_at: Option<usize>,
}

impl<const CPUS: usize> Madt<CPUS> {
    /// Reads the entries of a table, without its header of 44 bytes. Processors with a larger id than
    /// `largest_id` are left out.
    pub fn read(entries: &[u8], largest_id: u32) -> Madt<CPUS> {
        let mut found = Madt::default();
        let mut serial_input = u32::from(SERIAL_IRQ);
        let mut io_apics: ArrayVec<(u64, u32), IO_APICS> = ArrayVec::new();
        let mut rest = entries;
        while !rest.is_empty() {
            let Some((entry, length)) = Entry::read(rest) else {
                found.malformed_at = Some(entries.len() - rest.len());
                break;
            };
            match entry {
                Entry::Processor { id, flags } if flags & ENABLED != 0 => found.add(id, largest_id),
                Entry::Override { irq: SERIAL_IRQ, input } => serial_input = input,
                Entry::IoApic { address, first_input } => {
                    let _ = io_apics.try_push((address.into(), first_input));
                }
                _ => {}
            }
            rest = &rest[length..];
        }
        found.io_apic = io_apics
            .iter()
            .filter_map(|&(address, first)| Some((address, serial_input.checked_sub(first)?)))
            .min_by_key(|(_, serial_input)| *serial_input)
            .map(|(address, serial_input)| IoApic { address, serial_input });
        found
    }

    /// Whether a processor can be addressed in x2APIC mode only.
    pub fn needs_x2apic(&self) -> bool {
        self.apic_ids.iter().any(|&id| id > LARGEST_XAPIC_ID)
    }

    fn add(&mut self, id: u32, largest_id: u32) {
        if self.apic_ids.contains(&id) {
            // Firmware may list a processor with a small id in both forms.
        } else if id > largest_id {
            self.unreachable += 1;
        } else if self.apic_ids.try_push(id).is_err() {
            self.excess += 1;
        }
    }
}

/// An entry, as far as it matters here.
enum Entry {
    /// A processor: its local APIC, or its local x2APIC.
    Processor { id: u32, flags: u32 },
    /// An I/O APIC, and the global number of its first input.
    IoApic { address: u32, first_input: u32 },
    /// An ISA interrupt that arrives at another input than its number says.
    Override { irq: u8, input: u32 },
    /// Anything else.
    Other,
}

impl Entry {
    /// Reads the first entry of some bytes. Returns it with its length, or `None` if it is malformed.
    fn read(bytes: &[u8]) -> Option<(Entry, usize)> {
        let (&kind, &length) = (bytes.first()?, bytes.get(1)?);
        let length = usize::from(length);
        // An entry is two bytes at least, or the reading wouldn't end.
        let entry = bytes.get(..length).filter(|_| length >= 2)?;
        let byte = |at: usize| entry.get(at).copied();
        let word = |at: usize| {
            let bytes = entry.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let entry = match kind {
            // Local APIC. Id 255 doesn't exist.
            0 => match byte(3)? {
                u8::MAX => Entry::Other,
                id => Entry::Processor { id: id.into(), flags: word(4)? },
            },
            1 => Entry::IoApic { address: word(4)?, first_input: word(8)? },
            2 => Entry::Override { irq: byte(3)?, input: word(4)? },
            // Local x2APIC. Id 2^32 - 1 doesn't exist.
            9 => match word(4)? {
                u32::MAX => Entry::Other,
                id => Entry::Processor { id, flags: word(8)? },
            },
            _ => Entry::Other,
        };
        Some((entry, length))
    }
}
