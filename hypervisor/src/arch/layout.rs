//! Virtual memory layout of the hypervisor: sixteen L4 slots, 256 to 271.
//!
//! | slot | from | what |
//! |---|---|---|
//! | 256 | `0xffff800000000000` | machine-to-physical table, which guest kernels may read (ABI) |
//! | 257 | `0xffff808000000000` | nothing |
//! | 258 | `0xffff810000000000` | device registers |
//! | 259 | `0xffff818000000000` | per CPU: guard page, stack, record; and the idle GDTs |
//! | 260 | `0xffff820000000000` | per-domain mappings: GDT and LDT of each vCPU |
//! | 261 | `0xffff828000000000` | the hypervisor's image |
//! | 262-271 | `0xffff830000000000` | direct map of all RAM |

use super::gdt::GDT_BYTES;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::paging::TABLE_ENTRIES;

/// Bytes that an L4 slot maps.
const SLOT: u64 = 1 << 39;
const FIRST: u64 = 0xffff_8000_0000_0000;

/// First address of an L4 slot.
const fn slot(number: u64) -> u64 {
    FIRST + (number - 256) * SLOT
}

/// L4 slot of the per-domain mappings.
pub const PER_DOMAIN_SLOT: usize = 260;
/// Start of the range in which the boot loader may place its own mappings, which exist until the
/// hypervisor's page tables are loaded. It takes a whole slot for each.
pub const LOADER_START: u64 = slot(256);
/// Registers of the local APIC.
pub const APIC_REGISTERS: u64 = slot(258);
/// Registers of the I/O APIC.
pub const IO_APIC_REGISTERS: u64 = slot(258) + PAGE_SIZE;
/// The per-CPU areas. Each holds a guard page, the CPU's stack, and its record.
const CPU_AREAS: u64 = slot(259);
/// Bytes from one CPU's area to the next.
const CPU_AREA: u64 = 256 * 1024;
/// Bytes of a CPU's stack.
pub const STACK_BYTES: u64 = 64 * 1024;
/// The idle GDTs, loaded while no vCPU is. Only the hypervisor's page of each is mapped.
const IDLE_GDTS: u64 = slot(259) + (1 << 30);

/// Lowest address of a CPU's stack. The page below is the guard page, which isn't mapped.
pub const fn stack_bottom(cpu: usize) -> u64 {
    CPU_AREAS + cpu as u64 * CPU_AREA + PAGE_SIZE
}

/// End of a CPU's stack, exclusive.
pub const fn stack_top(cpu: usize) -> u64 {
    stack_bottom(cpu) + STACK_BYTES
}

/// Address of a CPU's record ([`super::percpu::PerCpu`]).
pub const fn cpu_record(cpu: usize) -> u64 {
    stack_top(cpu)
}

/// Whether two words at an address lie on the stack of a CPU.
pub const fn is_stack(address: u64) -> bool {
    if address < CPU_AREAS || address >= IDLE_GDTS {
        return false;
    }
    let offset = (address - CPU_AREAS) % CPU_AREA;
    offset >= PAGE_SIZE && offset < PAGE_SIZE + STACK_BYTES - 8
}

/// Address of a CPU's idle GDT.
pub const fn idle_gdt(cpu: usize) -> u64 {
    IDLE_GDTS + cpu as u64 * GDT_BYTES
}

/// The per-domain mappings.
pub const PER_DOMAIN_START: u64 = slot(260);
/// The hypervisor's image.
pub const IMAGE_START: u64 = slot(261);
/// Start of the direct map: machine address 0.
pub const DIRECT_MAP_START: u64 = slot(262);
/// Size of the direct map in bytes.
pub const DIRECT_MAP_BYTES: u64 = 10 * SLOT;

/// Bytes of a vCPU's part of the per-domain mappings: GDT, then LDT.
pub const VCPU_MAPPINGS_BYTES: u64 = 256 * 1024;
/// vCPUs whose parts one L1 table maps.
pub const VCPUS_PER_L1: usize = (TABLE_ENTRIES as u64 * PAGE_SIZE / VCPU_MAPPINGS_BYTES) as usize;
/// Offset of the LDT in a vCPU's part, in bytes.
pub const LDT_OFFSET: u64 = 128 * 1024;
