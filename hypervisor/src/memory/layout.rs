//! What stands where in the hypervisor's sixteen L4 slots (256 to 271).
//!
//! | slot | from | what |
//! |---|---|---|
//! | 256 | `0xffff800000000000` | machine-to-physical table, read-only for guests too (ABI) |
//! | 257 | `0xffff808000000000` | nothing |
//! | 258 | `0xffff810000000000` | device registers |
//! | 259 | `0xffff818000000000` | stacks, a guard page below each; the idle GDT |
//! | 260 | `0xffff820000000000` | the domain's own: GDT and LDT windows of its vCPUs |
//! | 261 | `0xffff828000000000` | the hypervisor's image |
//! | 262-271 | `0xffff830000000000` | direct map of all RAM |

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
/// Stack of the first processor: its guard page.
pub const STACK_GUARD: u64 = slot(259);
/// Bytes of a processor's stack.
pub const STACK_BYTES: u64 = 64 * 1024;
/// One past the stack of the first processor.
pub const STACK_TOP: u64 = STACK_GUARD + 4096 + STACK_BYTES;
/// GDT that is loaded while no vCPU is: only the hypervisor's pages are mapped.
pub const IDLE_GDT: u64 = slot(259) + (1 << 30);
/// Per-domain window.
pub const PER_DOMAIN_START: u64 = slot(260);
/// The hypervisor's image.
pub const IMAGE_START: u64 = slot(261);
/// Direct map: physical address 0.
pub const DIRECT_MAP_START: u64 = slot(262);
/// Bytes that the direct map can reach.
pub const DIRECT_MAP_BYTES: u64 = 10 * SLOT;

/// Bytes of a vCPU's part of the per-domain window: GDT, then LDT.
pub const VCPU_WINDOW: u64 = 256 * 1024;
/// Bytes from a vCPU's part to its LDT.
pub const LDT_OFFSET: u64 = 128 * 1024;
