//! Caches: the page attribute table (PAT), and writing back single pages.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::mmu::PAT;
use raw_cpuid::CpuId;
use x86_64::instructions::tlb;
use x86_64::registers::model_specific::Msr;

/// The page attribute table (Intel SDM vol. 3, 12.12.2).
const IA32_PAT: u32 = 0x277;

/// Step of [`flush_page`] in bytes: the size of a cache line, 64 at most. Written once at boot.
static LINE: AtomicU64 = AtomicU64::new(64);

/// Sets the PAT that the ABI promises to guests, and by which the validator decodes the memory type
/// of their entries.
///
/// The four types that need no PAT flag stay as they are after reset, and the hypervisor uses no
/// others: write-back for memory, uncached for device registers. So no mapping in use changes its
/// type. Caches and TLB are flushed anyway, as Intel SDM vol. 3, 12.12.4 requires.
pub fn set_up() {
    let line = CpuId::new().get_feature_info().map_or(0, |info| info.cflush_cache_line_size());
    // CPUID counts in units of 8 bytes.
    if line != 0 {
        LINE.store((u64::from(line) * 8).min(64), Ordering::Relaxed);
    }
    // SAFETY: every x86-64 CPU has the MSR, and no mapping of the hypervisor changes its type.
    unsafe {
        asm!("wbinvd", options(nostack, preserves_flags));
        Msr::new(IA32_PAT).write(PAT);
        asm!("wbinvd", options(nostack, preserves_flags));
    }
    tlb::flush_all();
}

/// Writes a page back to memory and drops it from the caches of all CPUs. `address` is where the
/// page is mapped; if nothing is mapped there, the CPU faults and the hypervisor panics.
///
/// The fences order `clflush` with the other accesses of this CPU (Intel SDM vol. 2, CLFLUSH):
/// earlier stores are in the cache before it, and the lines are in memory when this returns. Stores
/// of other CPUs are in the caches already: each has acknowledged a TLB flush, for which it wrote
/// CR3. That instruction serialises and so drains the store buffer and the write-combining buffers
/// (Intel SDM vol. 3, 9.3 and 12.3.1).
pub fn flush_page(address: *mut u8) {
    let step = LINE.load(Ordering::Relaxed) as usize;
    // SAFETY: flushing a line changes no byte of it; `wrapping_add` makes no claim on the address.
    unsafe {
        asm!("mfence", options(nostack, preserves_flags));
        for offset in (0..PAGE_SIZE as usize).step_by(step) {
            asm!("clflush [{}]", in(reg) address.wrapping_add(offset), options(nostack, preserves_flags));
        }
        asm!("mfence", options(nostack, preserves_flags));
    }
}
