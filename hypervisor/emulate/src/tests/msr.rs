//! MSRs: what is shown, what is refused.

use crate::GeneralProtection;
use crate::msr::*;
use pinfold_abi::address::Mfn;

const CONTEXT: MsrContext =
    MsrContext { fs_base: 1, gs_base: 2, kernel_gs_base: 3, tsc: 4, boot_vcpu: true };

#[test]
fn segment_bases_are_read_and_written() {
    assert_eq!(read(FS_BASE, &CONTEXT), Ok(1));
    assert_eq!(read(GS_BASE, &CONTEXT), Ok(2));
    assert_eq!(read(KERNEL_GS_BASE, &CONTEXT), Ok(3));
    let kernel = 0xffff_ffff_8200_0000;
    assert_eq!(write(FS_BASE, 5), Ok(WriteEffect::SetFsBase(5)));
    assert_eq!(write(GS_BASE, kernel), Ok(WriteEffect::SetGsBase(kernel)));
    assert_eq!(write(KERNEL_GS_BASE, 0), Ok(WriteEffect::SetKernelGsBase(0)));
    for base in [1 << 47, 0xffff_7fff_ffff_ffff, 1 << 63] {
        for msr in [FS_BASE, GS_BASE, KERNEL_GS_BASE] {
            assert_eq!(write(msr, base), Err(GeneralProtection));
        }
    }
}

#[test]
fn other_msrs_read_as_fixed_values() {
    assert_eq!(read(PAT, &CONTEXT), Ok(0x0000_0501_0007_0406));
    assert_eq!(read(EFER, &CONTEXT), Ok(0xd01));
    assert_eq!(read(TSC, &CONTEXT), Ok(4));
    assert_eq!(read(APIC_BASE, &CONTEXT), Ok(0xfee0_0900));
    let second = MsrContext { boot_vcpu: false, ..CONTEXT };
    assert_eq!(read(APIC_BASE, &second), Ok(0xfee0_0800));
    assert_eq!(write(EFER, EFER_VIEW), Ok(WriteEffect::Ignore));
    assert_eq!(write(EFER, EFER_VIEW | 1 << 12), Err(GeneralProtection), "SVME");
    for (msr, value) in [(PAT, PAT_VALUE), (TSC, 0), (APIC_BASE, 0xfee0_0800), (EFER, 0)] {
        assert_eq!(write(msr, value), Err(GeneralProtection), "{msr:#x}");
    }
    assert_eq!(write(MISC_ENABLE, 0), Ok(WriteEffect::Ignore));
    assert_eq!(write(MISC_FEATURES, 1), Err(GeneralProtection), "CPUID faulting");
}

#[test]
fn hidden_msrs_raise_gp() {
    // MTRR, machine checks, PMU, speculation control, TSC_AUX, SYSENTER.
    // And where `syscall` goes, which is the hypervisor's.
    for msr in [
        0x2ff,
        0x200,
        0x179,
        0x400,
        0x186,
        0x48,
        0x49,
        0x10a,
        0xc000_0103,
        0x174,
        0xc000_0081,
        0xc000_0082,
        0xc000_0083,
        0xc000_0084,
        0x802,
        0x1234_5678,
    ] {
        assert_eq!(read(msr, &CONTEXT), Err(GeneralProtection), "{msr:#x}");
        assert_eq!(write(msr, 0), Err(GeneralProtection), "{msr:#x}");
    }
}

#[test]
fn the_hypercall_page_msr_takes_a_page_address() {
    assert_eq!(
        write(HYPERCALL_PAGE, 0x1234_5000),
        Ok(WriteEffect::HypercallPage { mfn: Mfn::new(0x12345) })
    );
    assert_eq!(write(HYPERCALL_PAGE, 0x1234_5001), Err(GeneralProtection));
}
