//! Real CPUs by the words that they report, their flaws and the mitigations that follow.

use super::*;
use crate::flaw::Flaw::{self, *};
use crate::{CpuFeatures, IbrsMode, Mitigations, VariantArray, Vendor};
use std::vec::Vec;

struct KnownCpu {
    name: &'static str,
    words: CpuidWords,
    /// Vendor, family, model.
    is: (Vendor, u32, u32),
    has: &'static [Flaw],
    plan: Mitigations,
}

const BRANCHES: Mitigations = Mitigations {
    isolated_tables: false,
    refuse_absent: false,
    ibpb: true,
    fill_rsb: true,
    flush_l1d: false,
    clear_buffers: false,
    ibrs: None,
    clear_fpu_pointers: false,
};

fn known() -> Vec<KnownCpu> {
    use Vendor::*;
    let bare = Mitigations { ibpb: false, ..BRANCHES };
    let old_amd = Mitigations { clear_fpu_pointers: true, ..BRANCHES };
    std::vec![
        KnownCpu {
            name: "Haswell i7-4770, microcode of 2013",
            words: intel(0x306c3, 0, 0),
            is: (Intel, 6, 0x3c),
            has: &[Meltdown, L1tf, Mds, MmioStaleData, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { refuse_absent: true, ..bare },
        },
        KnownCpu {
            name: "Skylake i7-6700, updated, with TSX",
            words: CpuidWords { leaf_7_ebx: RTM, ..intel(0x506e3, UPDATED, 0) },
            is: (Intel, 6, 0x5e),
            has: &[
                Meltdown,
                L1tf,
                Mds,
                Taa,
                MmioStaleData,
                SpectreV2,
                SpeculativeStoreBypass,
                Retbleed,
            ],
            plan: Mitigations {
                refuse_absent: true,
                flush_l1d: true,
                clear_buffers: true,
                ..BRANCHES
            },
        },
        KnownCpu {
            name: "Skylake-SP in a virtual machine whose hypervisor flushes",
            // RSBA, SKIP_L1DFL_VMENTRY
            words: intel(0x50654, UPDATED, 0xc),
            is: (Intel, 6, 0x55),
            has: &[Meltdown, L1tf, Mds, MmioStaleData, SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: Mitigations { refuse_absent: true, clear_buffers: true, ..BRANCHES },
        },
        KnownCpu {
            name: "Cascade Lake, with TSX",
            // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO, TSX_CTRL
            words: CpuidWords { leaf_7_ebx: RTM, ..intel(0x50657, UPDATED, 0xab) },
            is: (Intel, 6, 0x55),
            has: &[Taa, MmioStaleData, SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        KnownCpu {
            name: "Ice Lake-SP",
            // And IF_PSCHANGE_MC_NO, TAA_NO, FB_CLEAR
            words: intel(0x606a6, UPDATED, 0x2_016b),
            is: (Intel, 6, 0x6a),
            has: &[MmioStaleData, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        KnownCpu {
            name: "Sapphire Rapids",
            // And SBDR_SSDP_NO, FBSDP_NO, PSDP_NO
            words: intel(0x806f8, UPDATED, 0xe16b),
            is: (Intel, 6, 0x8f),
            has: &[SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        KnownCpu {
            name: "Atom N270",
            words: intel(0x106c2, 0, 0),
            is: (Intel, 6, 0x1c),
            has: &[],
            plan: Mitigations::default(),
        },
        KnownCpu {
            name: "Silvermont J1900",
            words: intel(0x30678, 1 << 10 | 1 << 26, 0),
            is: (Intel, 6, 0x37),
            has: &[Meltdown, Mds, MmioStaleData, SpectreV2],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        KnownCpu {
            name: "Goldmont N3350",
            // RDCL_NO, RFDS_CLEAR
            words: intel(0x506c9, 1 << 10 | 1 << 26, 0x1000_0001),
            is: (Intel, 6, 0x5c),
            has: &[Rfds, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        KnownCpu {
            name: "Alder Lake-S",
            // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO, IF_PSCHANGE, TAA_NO, three *_NO, RFDS_CLEAR
            words: intel(0x90672, UPDATED, 0x1000_e16b),
            is: (Intel, 6, 0x97),
            has: &[Rfds, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        KnownCpu {
            name: "K10 Phenom II",
            words: amd(0x100f43, 0, 0),
            is: (Amd, 0x10, 4),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed, FpuPointers],
            plan: Mitigations { clear_fpu_pointers: true, ..bare },
        },
        KnownCpu {
            name: "QEMU's translator, -cpu max",
            words: amd(0x60fb1, FP_POINTERS, 0),
            is: (Amd, 0xf, 0x6b),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: bare,
        },
        KnownCpu {
            name: "Piledriver FX-8350",
            words: amd(0x600f20, 1 << 12, 0),
            is: (Amd, 0x15, 2),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed, FpuPointers],
            plan: old_amd,
        },
        KnownCpu {
            name: "Zen 1, EPYC 7551",
            words: amd(0x800f12, 1 << 12, 0),
            is: (Amd, 0x17, 1),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed, FpuPointers],
            plan: old_amd,
        },
        KnownCpu {
            name: "Zen 2, EPYC 7742",
            words: amd(0x830f10, AMD_UPDATED | FP_POINTERS, 0),
            is: (Amd, 0x17, 0x31),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed],
            plan: BRANCHES,
        },
        KnownCpu {
            name: "Zen 3, EPYC 7763, with VERW_CLEAR and IBPB_BRTYPE",
            words: amd(0xa00f11, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 5 | 1 << 28),
            is: (Amd, 0x19, 1),
            has: &[Tsa, SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        KnownCpu {
            name: "Zen 4, EPYC 9654, as it was sold",
            words: amd(0xa10f11, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 8),
            is: (Amd, 0x19, 0x11),
            has: &[Tsa, SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { ibrs: Some(IbrsMode::Efer), ..BRANCHES },
        },
        KnownCpu {
            name: "Zen 5, EPYC 9755",
            words: CpuidWords {
                leaf_8000_0021_ecx: 1 << 1 | 1 << 2,
                ..amd(0xb00f21, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 8 | 1 << 28 | 1 << 30)
            },
            is: (Amd, 0x1a, 2),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { ibrs: Some(IbrsMode::Efer), ..BRANCHES },
        },
        KnownCpu {
            name: "Hygon Dhyana",
            words: CpuidWords { vendor: HYGON, ..amd(0x900f02, 1 << 12, 0) },
            is: (Hygon, 0x18, 0),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed, FpuPointers],
            plan: old_amd,
        },
    ]
}

#[test]
fn known_cpus_have_the_flaws_that_their_vendors_list() {
    for KnownCpu { name, words, is, has, plan } in known() {
        let cpu = CpuFeatures::new(words);
        assert_eq!((cpu.vendor, cpu.family, cpu.model), is, "{name}");
        let found: Vec<Flaw> =
            Flaw::VARIANTS.iter().copied().filter(|&flaw| cpu.has(flaw)).collect();
        assert_eq!(found, has, "{name}");
        assert_eq!(Mitigations::for_cpu(&cpu), plan, "{name}");
    }
}
