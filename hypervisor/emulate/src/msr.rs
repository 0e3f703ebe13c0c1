//! The model-specific registers that a guest may access.
//!
//! Numbers are those of the Intel SDM vol. 4 and the AMD APM vol. 2 appendix A. A guest has no MSRs
//! of its own except the three segment bases. Some others read as a fixed value; the rest raise #GP.
//! Kernels access MSRs with a fault handler in place, so #GP does no harm. It is raised where Xen
//! raises it, among others for any write of PAT, TSC and APIC base, even of the present value.

use crate::control::GeneralProtection;
use pinfold_abi::address::{Mfn, PAGE_SIZE};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::EferFlags;

/// Time stamp counter.
pub const TSC: u32 = 0x10;
/// Local APIC base.
pub const APIC_BASE: u32 = 0x1b;
/// Microcode revision.
pub const UCODE_REV: u32 = 0x8b;
/// Platform information; bit 31 announces CPUID faulting.
pub const PLATFORM_INFO: u32 = 0xce;
/// Feature enables; bit 0 enables CPUID faulting.
pub const MISC_FEATURES: u32 = 0x140;
/// Miscellaneous enables.
pub const MISC_ENABLE: u32 = 0x1a0;
/// Page attribute table.
pub const PAT: u32 = 0x277;
/// Extended features.
pub const EFER: u32 = 0xc000_0080;
/// FS base.
pub const FS_BASE: u32 = 0xc000_0100;
/// The active GS base.
pub const GS_BASE: u32 = 0xc000_0101;
/// The inactive GS base, which `swapgs` activates.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// A write fills a page with hypercall stubs. CPUID leaf 0x40000002 announces the number.
pub const HYPERCALL_PAGE: u32 = 0x4000_0000;

/// The PAT that applies to guests' page-table entries (`public/arch-x86/xen.h`): WB, WT, UC-, UC, WC,
/// WP, UC, UC.
pub const PAT_VALUE: u64 = pinfold_abi::mmu::PAT;
/// EFER as a guest reads it: SCE, LME, LMA, NXE.
pub const EFER_VIEW: u64 = EferFlags::SYSTEM_CALL_EXTENSIONS
    .union(EferFlags::LONG_MODE_ENABLE)
    .union(EferFlags::LONG_MODE_ACTIVE)
    .union(EferFlags::NO_EXECUTE_ENABLE)
    .bits();
/// [`APIC_BASE`] of every vCPU: the default address, enabled.
const APIC_BASE_VALUE: u64 = 0xfee0_0800;
/// [`APIC_BASE`]: the bit of the bootstrap processor.
const APIC_BASE_BSP: u64 = 1 << 8;

/// What the values of MSRs depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsrContext {
    /// FS base.
    pub fs_base: u64,
    /// The active GS base.
    pub gs_base: u64,
    /// The inactive GS base.
    pub kernel_gs_base: u64,
    /// The time stamp counter.
    pub tsc: u64,
    /// The vCPU is the domain's first.
    pub boot_vcpu: bool,
}

/// What the caller must do to complete a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the write has not completed"]
pub enum WriteEffect {
    /// Nothing.
    Ignore,
    /// Set the FS base; the address is canonical.
    SetFsBase(u64),
    /// Set the active GS base; the address is canonical.
    SetGsBase(u64),
    /// Set the inactive GS base; the address is canonical.
    SetKernelGsBase(u64),
    /// Fill this machine frame with hypercall stubs, if the guest may write to it. The number is
    /// the guest's and unchecked.
    HypercallPage {
        /// The frame.
        mfn: Mfn,
    },
}

/// Emulates `rdmsr`.
///
/// # Errors
/// [`GeneralProtection`]: not an MSR that a guest may read. As long as the guest has no #GP handler,
/// the ABI wants 0 instead of the fault; that is up to the caller.
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

/// Emulates `wrmsr`.
///
/// # Errors
/// [`GeneralProtection`]: not an MSR that a guest may write, or not such a value.
pub const fn write(msr: u32, value: u64) -> Result<WriteEffect, GeneralProtection> {
    Ok(match msr {
        FS_BASE | GS_BASE | KERNEL_GS_BASE if VirtAddr::try_new(value).is_err() => {
            return Err(GeneralProtection);
        }
        FS_BASE => WriteEffect::SetFsBase(value),
        GS_BASE => WriteEffect::SetGsBase(value),
        KERNEL_GS_BASE => WriteEffect::SetKernelGsBase(value),
        // The low bits are an index of the page; there is only one.
        HYPERCALL_PAGE if value.is_multiple_of(PAGE_SIZE) => {
            WriteEffect::HypercallPage { mfn: Mfn::from_address(value) }
        }
        EFER if value == EFER_VIEW => WriteEffect::Ignore,
        PLATFORM_INFO | MISC_FEATURES | UCODE_REV if value == 0 => WriteEffect::Ignore,
        MISC_ENABLE => WriteEffect::Ignore,
        _ => return Err(GeneralProtection),
    })
}
