//! Instructions that are there only on CPUs that need them: put in place at boot.

use crate::arch::entry;
use crate::memory::{direct_map, paging};
use pinfold_cpu_flaws::Mitigations;
use pinfold_validator::Mfn;

/// Puts `verw` on the ways back to guests, if the CPUs want it. On the hypervisor's own
/// tables, before any other CPU or guest runs.
///
/// # Panics
/// If the code isn't where the tables say.
pub fn apply(mitigations: &Mitigations) {
    if !mitigations.clear_buffers {
        return;
    }
    for (site, bytes) in entry::verw_sites() {
        // The code itself is mapped read-only: through the direct map, byte by byte, since a place
        // may lie across two pages.
        for (at, byte) in (site..).zip(bytes) {
            let physical = paging::translate(at).expect("the hypervisor's code is mapped");
            let offset = (physical % 4096) as usize;
            // SAFETY: the frame holds the code of the hypervisor, which nothing runs through yet.
            unsafe { direct_map::write_bytes(Mfn::from_address(physical), offset, &[byte]) };
        }
    }
    // What the CPU fetched ahead is dropped (Intel SDM vol. 3, 9.3): `cpuid` serialises. The
    // code runs for the first time after this, on this CPU and on the others.
    let _ = raw_cpuid::cpuid!(0);
    for (site, bytes) in entry::verw_sites() {
        // SAFETY: the place is code of this image, which may be read.
        let there = unsafe { (site as *const [u8; 7]).read_volatile() };
        assert_eq!(there, bytes, "the code at {site:#x} is not what was put there");
    }
}
