//! The CPUID leaves that a guest sees.
//!
//! The tables below are an allow-list: a guest sees a feature bit if it is listed and the CPU has it.
//! So features of future CPUs are hidden, too. Bit positions are from the Intel SDM (vol. 2, CPUID)
//! and, from leaf 0x80000000 on, the AMD APM (vol. 3, appendix E).
//!
//! Hidden features are not protection: `cpuid` itself doesn't trap, so only a guest that uses the
//! forced-emulation prefix (or runs on a CPU with CPUID faulting) gets these leaves.
//!
//! Some features must be hidden for guests to work. SMAP: `stac` and `clac` are #UD in ring 3. PSE
//! and PAGE1GB: kernels would make large mappings, which are refused. PGE, PCID, INVPCID, SMEP, UMIP,
//! LA57 and MTRR: only the hypervisor can use them. XSAVE and everything that needs its state (AVX,
//! PKU, AMX): the hypervisor doesn't switch XCR0 and the extended state.

use pinfold_abi::cpuid::{FIRST_LEAF, SIGNATURE};
use pinfold_abi::version::ABI_VERSION;

/// A result register of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum OutputRegister {
    /// eax
    Eax = 0,
    /// ebx
    Ebx = 1,
    /// ecx
    Ecx = 2,
    /// edx
    Edx = 3,
}

/// The features of one output register of one leaf that guests may see.
#[derive(Debug)]
pub struct AllowedFeatures {
    /// The leaf.
    pub leaf: u32,
    /// The output register.
    pub output: OutputRegister,
    /// Bit numbers and names.
    pub bits: &'static [(u32, &'static str)],
}

/// All features that a guest may see.
pub const ALLOWED: &[AllowedFeatures] = &[
    AllowedFeatures {
        leaf: 1,
        output: OutputRegister::Edx,
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
    AllowedFeatures {
        leaf: 1,
        output: OutputRegister::Ecx,
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
    AllowedFeatures {
        leaf: 7,
        output: OutputRegister::Ebx,
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
    AllowedFeatures { leaf: 7, output: OutputRegister::Ecx, bits: &[(8, "gfni")] },
    AllowedFeatures {
        leaf: 7,
        output: OutputRegister::Edx,
        bits: &[(4, "fsrm"), (10, "md-clear"), (14, "serialize")],
    },
    AllowedFeatures {
        leaf: 0x8000_0001,
        output: OutputRegister::Edx,
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
    AllowedFeatures {
        leaf: 0x8000_0001,
        output: OutputRegister::Ecx,
        bits: &[
            (0, "lahf"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (21, "tbm"),
        ],
    },
    AllowedFeatures {
        leaf: 0x8000_0007,
        output: OutputRegister::Edx,
        bits: &[(8, "invariant-tsc")],
    },
    AllowedFeatures { leaf: 0x8000_0008, output: OutputRegister::Ebx, bits: &[(0, "clzero")] },
];

/// The highest basic leaf that guests see. They need none above.
const LAST_BASIC: u32 = 7;
/// The highest extended leaf that guests see.
const LAST_EXTENDED: u32 = 0x8000_0008;
/// The highest hypervisor leaf.
const LAST_HYPERVISOR: u32 = FIRST_LEAF + 5;
/// Width in bits of the machine addresses that guests may get. Version 1 of the grant tables can
/// name no more than 16 TiB; with more, guests would insist on version 2.
pub const MACHINE_ADDRESS_WIDTH: u32 = 44;
/// Leaf 1, ecx: the guest runs on a hypervisor.
const HYPERVISOR: u32 = 1 << 31;

/// What the leaves depend on besides the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidContext {
    /// Number of the vCPU.
    pub vcpu: u32,
    /// Frequency of the TSC in kHz.
    pub tsc_khz: u32,
    /// Multiplier from TSC to nanoseconds, as in `vcpu_time_info`.
    pub tsc_to_system_mul: u32,
    /// The shift that goes with it.
    pub tsc_shift: i8,
    /// The TSC has a constant rate and is the same on all CPUs.
    pub tsc_reliable: bool,
}

/// The result of CPUID for a guest. `host` is the CPU's own result for the same leaf and sub-leaf, as
/// eax, ebx, ecx, edx; it is not used for the hypervisor leaves, 0x40000000 to 0x4fffffff.
#[inline]
pub const fn filter(leaf: u32, subleaf: u32, host: [u32; 4], context: &CpuidContext) -> [u32; 4] {
    let [eax, ebx, ecx, edx] = host;
    match leaf {
        0 => [min(eax, LAST_BASIC), ebx, ecx, edx],
        1 => [
            eax,
            // Brand and CLFLUSH size as in the CPU; one logical processor; Linux expects that the
            // APIC ID of a PV vCPU is twice the vCPU's number.
            ebx & 0xffff | 1 << 16 | (context.vcpu & 0x7f) << 25,
            ecx & mask(1, OutputRegister::Ecx) | HYPERVISOR,
            edx & mask(1, OutputRegister::Edx),
        ],
        // Cache descriptors.
        2 => host,
        // Caches, not shared, since there is one core.
        4 => [eax & 0x3ff, ebx, ecx, edx],
        7 if subleaf == 0 => [
            0,
            ebx & mask(7, OutputRegister::Ebx),
            ecx & mask(7, OutputRegister::Ecx),
            edx & mask(7, OutputRegister::Edx),
        ],
        FIRST_LEAF..=0x4fff_ffff => hypervisor(leaf, subleaf, context),
        0x8000_0000 => [min(eax, LAST_EXTENDED), ebx, ecx, edx],
        0x8000_0001 => [
            eax,
            0,
            ecx & mask(0x8000_0001, OutputRegister::Ecx),
            edx & mask(0x8000_0001, OutputRegister::Edx),
        ],
        // The CPU's name, and AMD's descriptions of caches and TLBs.
        0x8000_0002..=0x8000_0006 => host,
        0x8000_0007 => [0, 0, 0, edx & mask(0x8000_0007, OutputRegister::Edx)],
        // Address widths: physical as in the CPU, linear always 48 bits.
        0x8000_0008 => [eax & 0xff | 48 << 8, ebx & mask(0x8000_0008, OutputRegister::Ebx), 0, 0],
        _ => [0; 4],
    }
}

/// The hypervisor leaves (`public/arch-x86/cpuid.h`).
const fn hypervisor(leaf: u32, subleaf: u32, context: &CpuidContext) -> [u32; 4] {
    const PAGES: u32 = 1;
    const PRESERVE_AD: u32 = 1 << 0;
    const TSC_RELIABLE: u32 = 1 << 1;
    match (leaf - FIRST_LEAF, subleaf) {
        (0, _) => [LAST_HYPERVISOR, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
        (1, _) => [ABI_VERSION, 0, 0, 0],
        (2, _) => [PAGES, crate::msr::HYPERCALL_PAGE, PRESERVE_AD, 0],
        // TSC: not emulated, its frequency, never migrated.
        (3, 0) => [if context.tsc_reliable { TSC_RELIABLE } else { 0 }, 0, context.tsc_khz, 0],
        // TSC: offset 0, conversion to nanoseconds.
        (3, 1) => [0, 0, context.tsc_to_system_mul, context.tsc_shift as u8 as u32],
        (3, 2) => [context.tsc_khz, 0, 0, 0],
        // Leaf 4 is for hardware-assisted guests.
        (5, 0) => [0, MACHINE_ADDRESS_WIDTH, 0, 0],
        _ => [0; 4],
    }
}

/// The allowed bits of an output register, as a mask.
pub const fn mask(leaf: u32, output: OutputRegister) -> u32 {
    let mut mask = 0;
    let mut entry = 0;
    while entry < ALLOWED.len() {
        let allowed = &ALLOWED[entry];
        if allowed.leaf == leaf && allowed.output as usize == output as usize {
            let mut bit = 0;
            while bit < allowed.bits.len() {
                mask |= 1 << allowed.bits[bit].0;
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
