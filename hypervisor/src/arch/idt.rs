//! Interrupt descriptor tables: 256 gates to the stubs of [`super::entry`], one table for each
//! [`EntrySet`].

use super::entry::EntrySet;
use super::gdt::HYPERVISOR_CS;
use super::percpu::Ist;
use super::vector;
use spin::Once;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::{PrivilegeLevel, VirtAddr};

/// A gate. The handler type is nominal: the stubs are no functions of any Rust ABI.
type Gate = Entry<HandlerFunc>;

/// Makes an interrupt gate, which clears IF on entry (Intel SDM vol. 3, 6.14.1). Software
/// interrupts (`int n`) reach it from the privilege level `dpl` on.
fn gate(stub: u64, ist: Option<Ist>, dpl: PrivilegeLevel) -> Gate {
    let mut gate = Gate::missing();
    // SAFETY: the address is that of a stub, which returns with `iretq` or leaves through `enter`;
    // the selector is the hypervisor's code segment; the IST has a stack for each `Ist`.
    unsafe {
        let options = gate.set_handler_addr(VirtAddr::new(stub));
        options
            .set_code_selector(SegmentSelector::new(HYPERVISOR_CS / 8, PrivilegeLevel::Ring0))
            .set_privilege_level(dpl);
        if let Some(ist) = ist {
            options.set_stack_index(ist as u16);
        }
    }
    gate
}

/// A table: a page with nothing else in it, because guest roots map it with page-table isolation.
#[repr(C, align(4096))]
struct Table([Gate; 256]);

/// The table of each [`EntrySet`].
static TABLES: [Once<Table>; 2] = [const { Once::new() }; 2];

fn table(entries: EntrySet) -> &'static Table {
    TABLES[entries as usize].call_once(|| {
        Table(core::array::from_fn(|number| {
            let number = number as u8;
            let paranoid =
                |ist| gate(entries.paranoid_stub(number), Some(ist), PrivilegeLevel::Ring0);
            match number {
                vector::DEBUG => {
                    gate(entries.debug_stub(), Some(Ist::Debug), PrivilegeLevel::Ring0)
                }
                vector::NMI => paranoid(Ist::Nmi),
                vector::DOUBLE_FAULT => paranoid(Ist::DoubleFault),
                vector::MACHINE_CHECK => paranoid(Ist::MachineCheck),
                // Ring 3 may use `int3`, `into` and `int 0x80`. Any other `int n` faults with #GP,
                // whose handler emulates it.
                vector::BREAKPOINT | vector::OVERFLOW | vector::INT80 => {
                    gate(entries.stub(number), None, PrivilegeLevel::Ring3)
                }
                _ => gate(entries.stub(number), None, PrivilegeLevel::Ring0),
            }
        }))
    })
}

/// Address of a table, which is page-aligned. The first call builds the table.
pub fn page(entries: EntrySet) -> u64 {
    &raw const *table(entries) as u64
}

/// Loads the IDT of this CPU.
pub fn load(entries: EntrySet) {
    let table = table(entries);
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(table) - 1) as u16,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: the table is never freed, and every gate leads to a stub.
    unsafe { lidt(&pointer) };
}
