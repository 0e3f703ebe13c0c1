//! The CPUID policy: what must be hidden is, what Linux needs is there.

use crate::cpuid::*;
use pinfold_abi::cpuid::FIRST_LEAF;

/// A CPU that has everything.
const ALL: [u32; 4] = [!0; 4];
const CONTEXT: CpuidContext = CpuidContext {
    vcpu: 3,
    tsc_khz: 2_400_000,
    tsc_to_system_mul: 0xd555_5555,
    tsc_shift: -1,
    tsc_reliable: true,
};

fn shown(leaf: u32, subleaf: u32) -> [u32; 4] {
    filter(leaf, subleaf, ALL, &CONTEXT)
}

#[test]
fn features_that_break_pv_guests_are_hidden() {
    let hidden: &[(u32, usize, &[u32])] = &[
        // VME, PSE, MCE, MTRR, PGE, MCA, PSE36, DS, ACPI, HTT, TM, PBE
        (1, 3, &[1, 3, 7, 12, 13, 14, 17, 21, 22, 28, 29, 31]),
        // DTES64, MONITOR, DSCPL, VMX, SMX, EIST, TM2, FMA, XTPR, PDCM, PCID, DCA, X2APIC,
        // TSC_DEADLINE, XSAVE, OSXSAVE, AVX, F16C
        (1, 2, &[2, 3, 4, 5, 6, 7, 8, 12, 14, 15, 17, 18, 21, 24, 26, 27, 28, 29]),
        // FSGSBASE, TSC_ADJUST, SGX, HLE, AVX2, SMEP, INVPCID, RTM, PQM, MPX, PQE, AVX512F, SMAP, PT
        (7, 1, &[0, 1, 2, 4, 5, 7, 10, 11, 12, 14, 15, 16, 20, 25]),
        // UMIP, PKU, OSPKE, WAITPKG, CET_SS, LA57, RDPID, ENQCMD, PKS
        (7, 2, &[2, 3, 4, 5, 7, 16, 22, 29, 31]),
        // UINTR, HYBRID, ARCH_LBR, CET_IBT, AMX, IBRS, STIBP, L1D_FLUSH, ARCH_CAPS, SSBD
        (7, 3, &[5, 15, 19, 20, 22, 24, 25, 26, 27, 28, 29, 31]),
        // SVM, EXTAPIC, CR8_LEGACY, OSVW, IBS, XOP, SKINIT, WDT, LWP, FMA4, NODEID, TOPOEXT,
        // PERFCTR, DBEXT, MONITORX
        (0x8000_0001, 2, &[2, 3, 4, 9, 10, 11, 12, 13, 15, 16, 19, 22, 23, 26, 29]),
        // PSE, MTRR, PGE, PSE36, PAGE1GB, RDTSCP
        (0x8000_0001, 3, &[1, 3, 12, 13, 17, 26, 27]),
        // IBPB, IBRS, STIBP
        (0x8000_0008, 1, &[12, 14, 15]),
    ];
    for &(leaf, output, bits) in hidden {
        for bit in bits {
            assert_eq!(
                shown(leaf, 0)[output] >> bit & 1,
                0,
                "leaf {leaf:#x} output {output} bit {bit}"
            );
        }
    }
}

#[test]
fn features_that_linux_needs_are_shown() {
    // FPU TSC MSR PAE CX8 APIC SEP CMOV PAT CLFLUSH MMX FXSR SSE SSE2
    for bit in [0, 4, 5, 6, 8, 9, 11, 15, 16, 19, 23, 24, 25, 26] {
        assert_eq!(shown(1, 0)[3] >> bit & 1, 1, "leaf 1 edx bit {bit}");
    }
    // CX16, HYPERVISOR
    assert_eq!(shown(1, 0)[2] & (1 << 13 | 1 << 31), 1 << 13 | 1 << 31);
    // SYSCALL, NX, LM
    assert_eq!(shown(0x8000_0001, 0)[3] & (1 << 11 | 1 << 20 | 1 << 29), 0x2010_0800);
}

#[test]
fn features_that_the_cpu_lacks_are_hidden() {
    for leaf in [7, 0x8000_0001, 0x8000_0007] {
        assert_eq!(filter(leaf, 0, [0; 4], &CONTEXT), [0; 4], "{leaf:#x}");
    }
    let [_, _, ecx, edx] = filter(1, 0, [0; 4], &CONTEXT);
    assert_eq!((ecx, edx), (1 << 31, 0));
}

#[test]
fn hypervisor_leaves_have_signature_version_and_limits() {
    let [eax, ebx, ecx, edx] = shown(FIRST_LEAF, 0);
    let name: std::vec::Vec<u8> = [ebx, ecx, edx].iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(name, b"XenVMMXenVMM");
    assert_eq!(eax, FIRST_LEAF + 5);
    assert_eq!(shown(FIRST_LEAF + 1, 0), [0x0004_0011, 0, 0, 0]);
    assert_eq!(shown(FIRST_LEAF + 5, 0), [0, 44, 0, 0]);
    assert_eq!(shown(FIRST_LEAF + 5, 1), [0; 4]);
    assert_eq!(shown(FIRST_LEAF + 2, 0), [1, 0x4000_0000, 1, 0]);
}

#[test]
fn leaf_3_describes_the_tsc() {
    assert_eq!(shown(FIRST_LEAF + 3, 0), [2, 0, 2_400_000, 0]);
    assert_eq!(shown(FIRST_LEAF + 3, 1), [0, 0, 0xd555_5555, 0xff]);
    assert_eq!(shown(FIRST_LEAF + 3, 2), [2_400_000, 0, 0, 0]);
    let unreliable = CpuidContext { tsc_reliable: false, ..CONTEXT };
    assert_eq!(filter(FIRST_LEAF + 3, 0, ALL, &unreliable)[0], 0);
}

#[test]
fn unlisted_leaves_are_zero() {
    // KVM's or another hypervisor's leaves, leaves above the announced ones, XSAVE, topology.
    for leaf in [0x4000_0100, 0x4fff_ffff, 8, 0xa, 0xb, 0xd, 0x1f, 0x8000_001e, 0xc000_0000, !0] {
        assert_eq!(shown(leaf, 0), [0; 4], "{leaf:#x}");
    }
    assert_eq!(shown(0, 0)[0], 7);
    assert_eq!(shown(0x8000_0000, 0)[0], 0x8000_0008);
    assert_eq!(filter(0, 0, [5, 0, 0, 0], &CONTEXT)[0], 5);
    assert_eq!(shown(7, 1), [0; 4]);
}

#[test]
fn topology_is_one_processor_with_the_vcpu_number() {
    let [_, ebx, ..] = shown(1, 0);
    assert_eq!(ebx >> 24, 6);
    assert_eq!(ebx >> 16 & 0xff, 1);
    assert_eq!(ebx & 0xffff, 0xffff);
    assert_eq!(shown(4, 0)[0] >> 14, 0);
    assert_eq!(shown(0x8000_0008, 0)[0], 0x30ff);
}

#[test]
fn the_tables_list_each_bit_once_in_order() {
    for entry in ALLOWED {
        for (index, (bit, name)) in entry.bits.iter().enumerate() {
            assert!(*bit < 32 && !name.is_empty());
            assert!(entry.bits[..index].iter().all(|(other, _)| other < bit), "{name}");
        }
        assert_eq!(mask(entry.leaf, entry.output).count_ones() as usize, entry.bits.len());
    }
}
