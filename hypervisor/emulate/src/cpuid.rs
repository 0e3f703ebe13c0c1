//! What CPUID tells a guest.
//!
//! An allow-list: a feature bit is shown when it stands in one of the tables below and the CPU has
//! it. What is not listed is hidden, so a feature that is invented tomorrow is hidden too. Bit
//! positions are the Intel SDM's (vol. 2, CPUID) and, from 0x80000000 on, the AMD APM's (vol. 3,
//! appendix E).
//!
//! Hiding is advice: `cpuid` itself does not trap, so only a guest that asks with the forced-emulation
//! prefix (or on a CPU with CPUID faulting) gets these answers. Nothing relies on a guest's ignorance.
//!
//! Three groups matter for correctness. SMAP must be hidden, since `stac` and `clac` are #UD in ring
//! 3; PSE and PAGE1GB, or kernels build large mappings, which are refused; PGE, PCID, INVPCID,
//! SMEP, UMIP, LA57 and MTRR, which are the hypervisor's alone. XSAVE and all that needs its state (AVX,
//! PKU, AMX) is hidden until the hypervisor switches XCR0 and the state.

use pinfold_abi::cpuid::{FIRST_LEAF, SIGNATURE};
use pinfold_abi::version::ABI_VERSION;

/// A result register of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Output {
    /// eax
    Eax = 0,
    /// ebx
    Ebx = 1,
    /// ecx
    Ecx = 2,
    /// edx
    Edx = 3,
}

/// The features shown in one output of one leaf, by bit.
#[derive(Debug)]
pub struct Shown {
    /// The leaf.
    pub leaf: u32,
    /// The output.
    pub output: Output,
    /// Bits that are shown when the CPU has them.
    pub bits: &'static [(u32, &'static str)],
}

/// Every feature that a guest may see. An output of a leaf named here that is not itself here shows
/// nothing, unless [`filter`] says otherwise.
pub const SHOWN: &[Shown] = &[
    Shown {
        leaf: 1,
        output: Output::Edx,
        bits: &[
            (0, "fpu"),
            (2, "de"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (15, "cmov"),
            (16, "pat"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
        ],
    },
    Shown {
        leaf: 1,
        output: Output::Ecx,
        bits: &[
            (0, "sse3"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (13, "cx16"),
            (19, "sse4.1"),
            (20, "sse4.2"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (30, "rdrand"),
        ],
    },
    Shown {
        leaf: 7,
        output: Output::Ebx,
        bits: &[
            (3, "bmi1"),
            (6, "fdp-exception-only"),
            (8, "bmi2"),
            (9, "erms"),
            (13, "fcs-fds-deprecated"),
            (18, "rdseed"),
            (19, "adx"),
            (23, "clflushopt"),
            (24, "clwb"),
            (29, "sha"),
        ],
    },
    Shown { leaf: 7, output: Output::Ecx, bits: &[(8, "gfni")] },
    Shown {
        leaf: 7,
        output: Output::Edx,
        bits: &[(4, "fsrm"), (10, "md-clear"), (14, "serialize")],
    },
    Shown {
        leaf: 0x8000_0001,
        output: Output::Edx,
        bits: &[
            // AMD repeats leaf 1 here.
            (0, "fpu"),
            (2, "de"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (8, "cx8"),
            (9, "apic"),
            (11, "syscall"),
            (15, "cmov"),
            (16, "pat"),
            (20, "nx"),
            (22, "mmxext"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "ffxsr"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    },
    Shown {
        leaf: 0x8000_0001,
        output: Output::Ecx,
        bits: &[
            (0, "lahf"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (21, "tbm"),
        ],
    },
    Shown { leaf: 0x8000_0007, output: Output::Edx, bits: &[(8, "invariant-tsc")] },
    Shown { leaf: 0x8000_0008, output: Output::Ebx, bits: &[(0, "clzero")] },
];

/// The highest basic leaf shown: there is nothing above it that a guest needs.
const LAST_BASIC: u32 = 7;
/// The highest extended leaf shown.
const LAST_EXTENDED: u32 = 0x8000_0008;
/// The highest of the hypervisor's leaves.
const LAST_HYPERVISOR: u32 = FIRST_LEAF + 5;
/// Bits of the widest machine address that a guest is ever given. 16 TiB is the most that version 1
/// of the grant tables can name; more would make guests insist on version 2.
pub const MACHINE_ADDRESS_WIDTH: u32 = 44;
/// Leaf 1 ecx: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;

/// What the answer depends on besides the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidContext {
    /// Number of the vCPU that asks.
    pub vcpu: u32,
    /// The TSC's frequency as the guest sees it.
    pub tsc_khz: u32,
    /// TSC to nanoseconds, as in `vcpu_time_info`: the multiplier.
    pub tsc_to_system_mul: u32,
    /// And the shift.
    pub tsc_shift: i8,
    /// The TSC runs evenly on all processors.
    pub tsc_reliable: bool,
}

/// The answer to a guest that asks for `leaf` and `subleaf`, given what the CPU itself answers to
/// the same question.
///
/// `host` must be the CPU's answer to exactly this leaf and sub-leaf. For the hypervisor's leaves,
/// 0x40000000 to 0x4fffffff, it is not looked at.
pub const fn filter(leaf: u32, subleaf: u32, host: [u32; 4], context: &CpuidContext) -> [u32; 4] {
    let [eax, ebx, ecx, edx] = host;
    match leaf {
        0 => [min(eax, LAST_BASIC), ebx, ecx, edx],
        1 => [
            eax,
            // Brand and CLFLUSH size stay; one logical processor; the APIC number Linux expects of
            // a PV vCPU is twice the vCPU's.
            ebx & 0xffff | 1 << 16 | (context.vcpu & 0x7f) << 25,
            ecx & mask(1, Output::Ecx) | HYPERVISOR,
            edx & mask(1, Output::Edx),
        ],
        // Cache descriptors.
        2 => host,
        // Caches; no sharing between cores, for there is one.
        4 => [eax & 0x3ff, ebx, ecx, edx],
        7 if subleaf == 0 => {
            [0, ebx & mask(7, Output::Ebx), ecx & mask(7, Output::Ecx), edx & mask(7, Output::Edx)]
        }
        FIRST_LEAF..=0x4fff_ffff => hypervisor(leaf, subleaf, context),
        0x8000_0000 => [min(eax, LAST_EXTENDED), ebx, ecx, edx],
        0x8000_0001 => {
            [eax, 0, ecx & mask(0x8000_0001, Output::Ecx), edx & mask(0x8000_0001, Output::Edx)]
        }
        // The processor's name, and AMD's descriptions of caches and TLBs.
        0x8000_0002..=0x8000_0006 => host,
        0x8000_0007 => [0, 0, 0, edx & mask(0x8000_0007, Output::Edx)],
        // Address widths: physical as it is, linear always 48 bits.
        0x8000_0008 => [eax & 0xff | 48 << 8, ebx & mask(0x8000_0008, Output::Ebx), 0, 0],
        _ => [0; 4],
    }
}

/// The leaves that say whose guest it is (`public/arch-x86/cpuid.h`).
const fn hypervisor(leaf: u32, subleaf: u32, context: &CpuidContext) -> [u32; 4] {
    const PAGES: u32 = 1;
    const PRESERVE_AD: u32 = 1 << 0;
    const TSC_RELIABLE: u32 = 1 << 1;
    match (leaf - FIRST_LEAF, subleaf) {
        (0, _) => [LAST_HYPERVISOR, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
        (1, _) => [ABI_VERSION, 0, 0, 0],
        (2, _) => [PAGES, crate::msr::HYPERCALL_PAGE, PRESERVE_AD, 0],
        // TSC: native, frequency, never migrated.
        (3, 0) => [if context.tsc_reliable { TSC_RELIABLE } else { 0 }, 0, context.tsc_khz, 0],
        // TSC: offset 0, then how to make nanoseconds of it.
        (3, 1) => [0, 0, context.tsc_to_system_mul, context.tsc_shift as u8 as u32],
        (3, 2) => [context.tsc_khz, 0, 0, 0],
        // Leaf +4 is about hardware-assisted guests.
        (5, 0) => [0, MACHINE_ADDRESS_WIDTH, 0, 0],
        _ => [0; 4],
    }
}

/// The bits of an output that are shown.
pub const fn mask(leaf: u32, output: Output) -> u32 {
    let mut mask = 0;
    let mut entry = 0;
    while entry < SHOWN.len() {
        let shown = &SHOWN[entry];
        if shown.leaf == leaf && shown.output as usize == output as usize {
            let mut bit = 0;
            while bit < shown.bits.len() {
                mask |= 1 << shown.bits[bit].0;
                bit += 1;
            }
        }
        entry += 1;
    }
    mask
}

const fn min(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}
