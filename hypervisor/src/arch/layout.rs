//! What stands where in the hypervisor's sixteen L4 slots (256 to 271).
//!
//! | slot | from | what |
//! |---|---|---|
//! | 256 | `0xffff800000000000` | machine-to-physical table, read-only for guests too (ABI) |
//! | 257 | `0xffff808000000000` | nothing |
//! | 258 | `0xffff810000000000` | device registers |
//! | 259 | `0xffff818000000000` | stacks and records of the CPUs, guard pages below the stacks; their idle GDTs |
//! | 260 | `0xffff820000000000` | the domain's own: GDT and LDT windows of its vCPUs |
//! | 261 | `0xffff828000000000` | the hypervisor's image |
//! | 262-271 | `0xffff830000000000` | direct map of all RAM |

use crate::arch::gdt::GDT_BYTES;

/// Bytes of an L4 slot.
const SLOT: u64 = 1 << 39;
const FIRST: u64 = 0xffff_8000_0000_0000;

const fn slot(number: u64) -> u64 {
    FIRST + (number - 256) * SLOT
}

/// L4 slot of the per-domain mappings.
pub const PER_DOMAIN_SLOT: usize = 260;
/// Where the boot loader may put what it maps on its own, until the hypervisor's tables are
/// loaded: it wants a whole slot for each mapping.
pub const LOADER_START: u64 = slot(256);
/// Registers of the local interrupt controller.
pub const APIC_REGISTERS: u64 = slot(258);
/// Registers of the I/O interrupt controller.
pub const IO_APIC_REGISTERS: u64 = slot(258) + 4096;
/// What each CPU has for itself: a guard page, its stack, its record.
const CPU_AREAS: u64 = slot(259);
/// Bytes from one CPU's area to the next.
const CPU_AREA: u64 = 256 * 1024;
/// Bytes of a CPU's stack.
pub const STACK_BYTES: u64 = 64 * 1024;
/// First of the GDTs that are loaded while no vCPU is: only the hypervisor's pages are mapped.
const IDLE_GDTS: u64 = slot(259) + (1 << 30);

/// Lowest address of a CPU's stack; the page below is not mapped.
pub const fn stack_bottom(cpu: usize) -> u64 {
    CPU_AREAS + cpu as u64 * CPU_AREA + 4096
}

/// One past a CPU's stack.
pub const fn stack_top(cpu: usize) -> u64 {
    stack_bottom(cpu) + STACK_BYTES
}

/// Record of a CPU ([`crate::arch::percpu::PerCpu`]).
pub const fn cpu_record(cpu: usize) -> u64 {
    stack_top(cpu)
}

/// Whether an address is on some CPU's stack, with a word of room above.
pub const fn is_stack(address: u64) -> bool {
    if address < CPU_AREAS || address >= IDLE_GDTS {
        return false;
    }
    let offset = (address - CPU_AREAS) % CPU_AREA;
    offset >= 4096 && offset < 4096 + STACK_BYTES - 8
}

/// GDT of a CPU while no vCPU is loaded.
pub const fn idle_gdt(cpu: usize) -> u64 {
    IDLE_GDTS + cpu as u64 * GDT_BYTES
}

/// Per-domain window.
pub const PER_DOMAIN_START: u64 = slot(260);
/// The hypervisor's image.
pub const IMAGE_START: u64 = slot(261);
/// Direct map: physical address 0.
pub const DIRECT_MAP_START: u64 = slot(262);
/// Bytes that the direct map can reach.
pub const DIRECT_MAP_BYTES: u64 = 10 * SLOT;

/// Bytes of a vCPU's part of the per-domain window: GDT, then LDT.
pub const VCPU_MAPPINGS_BYTES: u64 = 256 * 1024;
/// vCPUs that one L1 table's windows are enough for.
pub const VCPUS_PER_L1: usize = (2 << 20) / VCPU_MAPPINGS_BYTES as usize;
/// Bytes from a vCPU's part to its LDT.
pub const LDT_OFFSET: u64 = 128 * 1024;
