//! The model-specific registers that a guest may touch, and what comes of it.
//!
//! Numbers are those of the Intel SDM vol. 4 and the AMD APM vol. 2 appendix A. A guest has no
//! MSR of its own but the three segment bases; for the rest it is told what a quiet machine would
//! say, or refused. Kernels access MSRs with a fault handler in place, so a refusal is safe.
//! What is refused is what the reference refuses: among it any write of PAT, TSC and APIC base, even
//! of the value that is there.

use crate::GeneralProtection;
use pinfold_abi::layout::PAGE_SIZE;

/// Time stamp counter.
pub const TSC: u32 = 0x10;
/// Local APIC base.
pub const APIC_BASE: u32 = 0x1b;
/// Microcode revision.
pub const UCODE_REV: u32 = 0x8b;
/// Platform information; bit 31 would announce CPUID faulting.
pub const PLATFORM_INFO: u32 = 0xce;
/// Feature enables; bit 0 would switch CPUID faulting on.
pub const MISC_FEATURES: u32 = 0x140;
/// Miscellaneous enables.
pub const MISC_ENABLE: u32 = 0x1a0;
/// Page attribute table.
pub const PAT: u32 = 0x277;
/// Extended features.
pub const EFER: u32 = 0xc000_0080;
/// FS base.
pub const FS_BASE: u32 = 0xc000_0100;
/// The live GS base.
pub const GS_BASE: u32 = 0xc000_0101;
/// The parked GS base.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Fills a hypercall page; the number is announced in CPUID leaf 0x40000002.
pub const HYPERCALL_PAGE: u32 = 0x4000_0000;

/// The PAT that entries of guests are interpreted with (`public/arch-x86/xen.h`, PAT table):
/// WB, WT, UC-, UC, WC, WP, UC, UC.
pub const PAT_VALUE: u64 = pinfold_abi::mmu::PAT;
/// EFER as a guest sees it: SCE, LME, LMA, NXE.
pub const EFER_VIEW: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;
/// The local APIC's usual address, enabled.
const APIC_BASE_VALUE: u64 = 0xfee0_0800;
/// [`APIC_BASE`]: this is the processor that booted.
const APIC_BASE_BSP: u64 = 1 << 8;

/// What a read may need of the vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsrContext {
    /// FS base.
    pub fs_base: u64,
    /// The live GS base.
    pub gs_base: u64,
    /// The parked GS base.
    pub kernel_gs_base: u64,
    /// The time stamp counter.
    pub tsc: u64,
    /// The vCPU is the domain's first.
    pub boot_vcpu: bool,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing has been done yet"]
pub enum WriteEffect {
    /// Nothing; the instruction completes.
    Ignore,
    /// FS base; a canonical address.
    SetFsBase(u64),
    /// The live GS base; a canonical address.
    SetGsBase(u64),
    /// The parked GS base; a canonical address.
    SetKernelGsBase(u64),
    /// Fill this machine frame with hypercall stubs. The caller checks that the guest could write
    /// it: the number is the guest's.
    HypercallPage {
        /// The frame.
        mfn: u64,
    },
}

/// `rdmsr`.
///
/// For a guest without a #GP handler yet, the ABI asks the caller to give 0 in place of the fault.
pub const fn read(msr: u32, context: &MsrContext) -> Result<u64, GeneralProtection> {
    Ok(match msr {
        FS_BASE => context.fs_base,
        GS_BASE => context.gs_base,
        KERNEL_GS_BASE => context.kernel_gs_base,
        EFER => EFER_VIEW,
        PAT => PAT_VALUE,
        TSC => context.tsc,
        APIC_BASE if context.boot_vcpu => APIC_BASE_VALUE | APIC_BASE_BSP,
        APIC_BASE => APIC_BASE_VALUE,
        PLATFORM_INFO | MISC_FEATURES | MISC_ENABLE | UCODE_REV => 0,
        _ => return Err(GeneralProtection),
    })
}

/// `wrmsr`.
pub const fn write(msr: u32, value: u64) -> Result<WriteEffect, GeneralProtection> {
    Ok(match msr {
        FS_BASE | GS_BASE | KERNEL_GS_BASE if !is_canonical(value) => {
            return Err(GeneralProtection);
        }
        FS_BASE => WriteEffect::SetFsBase(value),
        GS_BASE => WriteEffect::SetGsBase(value),
        KERNEL_GS_BASE => WriteEffect::SetKernelGsBase(value),
        // The low bits are the page's number, and there is one page.
        HYPERCALL_PAGE if value.is_multiple_of(PAGE_SIZE) => {
            WriteEffect::HypercallPage { mfn: value / PAGE_SIZE }
        }
        EFER if value == EFER_VIEW => WriteEffect::Ignore,
        PLATFORM_INFO | MISC_FEATURES | UCODE_REV if value == 0 => WriteEffect::Ignore,
        MISC_ENABLE => WriteEffect::Ignore,
        _ => return Err(GeneralProtection),
    })
}

const fn is_canonical(address: u64) -> bool {
    // Sign extension of bit 47 must give the address again.
    ((address << 16) as i64 >> 16) as u64 == address
}
