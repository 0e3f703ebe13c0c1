//! Code patching at boot: instructions that only some CPUs need.

use crate::arch::entry;
use crate::memory::{direct_map, paging};
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_cpu_flaws::Mitigations;
use pinfold_validator::Mfn;

/// Patches `verw` into the return paths to guests, if the CPUs need it. To be called on the
/// hypervisor's page tables, before any AP or guest runs.
///
/// # Panics
/// If the patched code does not read back.
pub fn apply(mitigations: &Mitigations) {
    if !mitigations.clear_buffers {
        return;
    }
    for (site, bytes) in entry::verw_sites() {
        // Through the direct map, because the code is mapped read-only; byte by byte, because an
        // instruction may cross a page boundary.
        for (at, byte) in (site..).zip(bytes) {
            let physical = paging::translate(at).expect("the hypervisor's code is mapped");
            let offset = (physical % PAGE_SIZE) as usize;
            // SAFETY: the frame holds the code of the hypervisor, which nothing runs through yet.
            unsafe { direct_map::write_bytes(Mfn::from_address(physical), offset, &[byte]) };
        }
    }
    // `cpuid` serialises, which discards prefetched instructions (Intel SDM vol. 3, 9.3). No CPU has
    // executed this code before.
    let _ = raw_cpuid::cpuid!(0);
    for (site, bytes) in entry::verw_sites() {
        // SAFETY: the address is in the code of this image, which is readable.
        let found = unsafe { (site as *const [u8; 7]).read_volatile() };
        assert_eq!(found, bytes, "the patch at {site:#x} does not read back");
    }
}
