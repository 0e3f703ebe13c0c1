//! Tests of the whole crate: real CPUs by their CPUID words, and single decisions.

use crate::CpuidWords;

mod decisions;
mod known_cpus;

const INTEL: [u32; 3] = [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
const AMD: [u32; 3] = [0x6874_7541, 0x6974_6e65, 0x444d_4163];
const HYGON: [u32; 3] = [0x6f67_7948, 0x6e65_476e, 0x656e_6975];
const CENTAUR: [u32; 3] = [0x746e_6543, 0x4872_7561, 0x736c_7561];

/// Leaf 7 edx: MD_CLEAR, IBRS and IBPB, STIBP, L1D_FLUSH, SSBD.
const UPDATED: u32 = 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 31;
const ARCH_CAPABILITIES: u32 = 1 << 29;
const RTM: u32 = 1 << 11;
/// Leaf 0x80000008 ebx: IBPB, IBRS, STIBP, SSBD.
const AMD_UPDATED: u32 = 1 << 12 | 1 << 14 | 1 << 15 | 1 << 24;
const FP_POINTERS: u32 = 1 << 2;
const BTC_NO: u32 = 1 << 29;

fn intel(signature: u32, edx: u32, arch_capabilities: u64) -> CpuidWords {
    let leaf_7_edx = if arch_capabilities == 0 { edx } else { edx | ARCH_CAPABILITIES };
    CpuidWords { vendor: INTEL, signature, leaf_7_edx, arch_capabilities, ..Default::default() }
}

fn amd(signature: u32, ebx8: u32, eax21: u32) -> CpuidWords {
    CpuidWords {
        vendor: AMD,
        signature,
        leaf_8000_0008_ebx: ebx8,
        leaf_8000_0021_eax: eax21,
        ..Default::default()
    }
}
