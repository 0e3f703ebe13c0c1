//! The interrupt descriptor tables: 256 gates to the stubs of `entry`, in either set.

use super::entry::EntrySet;
use super::gdt::HYPERVISOR_CS;
use super::percpu::Ist;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

/// Vector of the timer interrupt.
pub const TIMER_VECTOR: u8 = 0xf0;
/// Vector by which processors ask each other for attention.
pub const IPI_VECTOR: u8 = 0xf1;
/// Vector of the first serial port.
pub const SERIAL_VECTOR: u8 = 0xf2;
/// Vector of spurious interrupts.
pub const SPURIOUS_VECTOR: u8 = 0xff;

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

/// An interrupt gate (IF is cleared on entry), Intel SDM vol. 3, 6.14.1.
fn gate(handler: u64, ist: Option<Ist>, dpl: u64) -> Gate {
    let ist = ist.map_or(0, |ist| ist as u64 + 1);
    let kind = 0x8e | dpl << 5;
    Gate {
        low: (handler & 0xffff)
            | u64::from(HYPERVISOR_CS) << 16
            | ist << 32
            | kind << 40
            | (handler >> 16 & 0xffff) << 48,
        high: handler >> 32,
    }
}

/// A table: a page with nothing else in it, as guests' roots map it with page-table isolation.
#[repr(C, align(4096))]
struct Table([Gate; 256]);

/// The table for each set of stubs.
static TABLES: [Once<Table>; 2] = [const { Once::new() }; 2];

fn table(entries: EntrySet) -> &'static Table {
    TABLES[entries as usize].call_once(|| {
        Table(core::array::from_fn(|vector| {
            let stub = entries.stub(vector as u8);
            match vector as u8 {
                1 => gate(entries.debug_stub(), Some(Ist::Debug), 0),
                2 => gate(entries.paranoid_stub(2), Some(Ist::Nmi), 0),
                8 => gate(entries.paranoid_stub(8), Some(Ist::DoubleFault), 0),
                18 => gate(entries.paranoid_stub(18), Some(Ist::MachineCheck), 0),
                // `int3`, `into` and the fast system call `int 0x80` work from ring 3; every other
                // `int n` arrives as #GP and is judged there.
                3 | 4 | 0x80 => gate(stub, None, 3),
                _ => gate(stub, None, 0),
            }
        }))
    })
}

/// Address of the page of a set's table, which is built at the first call.
pub fn page(entries: EntrySet) -> u64 {
    &raw const *table(entries) as u64
}

/// Loads the table of a set.
pub fn load(entries: EntrySet) {
    let table = table(entries);
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(table) - 1) as u16,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: the table lives for ever and every gate leads to a stub.
    unsafe { lidt(&pointer) };
}
