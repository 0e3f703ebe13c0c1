//! The caches, and the table that says what an entry's caching flags mean.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::mmu::PAT;
use raw_cpuid::CpuId;
use x86_64::instructions::tlb;
use x86_64::registers::model_specific::Msr;

/// The page attribute table (Intel SDM vol. 3, 12.12.2).
const IA32_PAT: u32 = 0x277;

/// Bytes that one `clflush` reaches. Written once at boot; no x86-64 processor has lines of less
/// than 64 bytes, and flushing one twice does no harm.
static LINE: AtomicU64 = AtomicU64::new(64);

/// Sets the page attribute table that guests expect, which the validator reads their entries by.
///
/// The four types that need no PAT flag are what processors and firmware start with, and all that
/// the hypervisor uses: write-back, and uncached for the interrupt controllers. So no mapping that
/// is in use changes its type, but caches and TLB are flushed all the same, as Intel SDM vol. 3,
/// 12.12.4, has it.
pub fn set_up() {
    let line = CpuId::new().get_feature_info().map_or(0, |info| info.cflush_cache_line_size());
    // In units of eight bytes.
    if line != 0 {
        LINE.store((u64::from(line) * 8).min(64), Ordering::Relaxed);
    }
    // SAFETY: every x86-64 processor has the MSR. No mapping of the hypervisor's changes its type.
    unsafe {
        asm!("wbinvd", options(nostack, preserves_flags));
        Msr::new(IA32_PAT).write(PAT);
        asm!("wbinvd", options(nostack, preserves_flags));
    }
    tlb::flush_all();
}

/// Writes back and drops what the caches of all processors hold of a page that is mapped here.
///
/// Fenced on both sides (Intel SDM vol. 2, CLFLUSH): no earlier store of this processor is still
/// on its way to the cache, and the lines are in memory when this returns. What other processors
/// stored is in the coherent caches since they answered the TLB flush before: they loaded CR3 for it,
/// and a serialising instruction drains the buffers of stores, those of write-combining too (Intel
/// SDM vol. 3, 9.3 and 12.3.1). The address must be mapped.
pub fn flush_page(address: *mut u8) {
    let step = LINE.load(Ordering::Relaxed) as usize;
    // SAFETY: flushing a line of mapped memory changes no byte of it.
    unsafe {
        asm!("mfence", options(nostack, preserves_flags));
        for offset in (0..4096).step_by(step) {
            asm!("clflush [{}]", in(reg) address.add(offset), options(nostack, preserves_flags));
        }
        asm!("mfence", options(nostack, preserves_flags));
    }
}
