//! Real CPUs, by the words that they answer, and what follows.

use crate::flaw::Flaw::{self, *};
use crate::{CpuFacts, CpuidWords, IbrsMode, Mitigations, Open, Vendor, leaves_fpu_pointers};
use std::string::ToString;
use std::vec::Vec;

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

struct Known {
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

fn known() -> Vec<Known> {
    use Vendor::*;
    let bare = Mitigations { ibpb: false, ..BRANCHES };
    let old_amd = Mitigations { clear_fpu_pointers: true, ..BRANCHES };
    std::vec![
        Known {
            name: "Haswell i7-4770, microcode of 2013",
            words: intel(0x306c3, 0, 0),
            is: (Intel, 6, 0x3c),
            has: &[Meltdown, L1tf, Mds, MmioStaleData, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { refuse_absent: true, ..bare },
        },
        Known {
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
        Known {
            name: "Skylake-SP in a virtual machine whose hypervisor flushes",
            // RSBA, SKIP_L1DFL_VMENTRY
            words: intel(0x50654, UPDATED, 0xc),
            is: (Intel, 6, 0x55),
            has: &[Meltdown, L1tf, Mds, MmioStaleData, SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: Mitigations { refuse_absent: true, clear_buffers: true, ..BRANCHES },
        },
        Known {
            name: "Cascade Lake, with TSX",
            // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO, TSX_CTRL
            words: CpuidWords { leaf_7_ebx: RTM, ..intel(0x50657, UPDATED, 0xab) },
            is: (Intel, 6, 0x55),
            has: &[Taa, MmioStaleData, SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        Known {
            name: "Ice Lake-SP",
            // And IF_PSCHANGE_MC_NO, TAA_NO, FB_CLEAR
            words: intel(0x606a6, UPDATED, 0x2_016b),
            is: (Intel, 6, 0x6a),
            has: &[MmioStaleData, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        Known {
            name: "Sapphire Rapids",
            // And SBDR_SSDP_NO, FBSDP_NO, PSDP_NO
            words: intel(0x806f8, UPDATED, 0xe16b),
            is: (Intel, 6, 0x8f),
            has: &[SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        Known {
            name: "Atom N270",
            words: intel(0x106c2, 0, 0),
            is: (Intel, 6, 0x1c),
            has: &[],
            plan: Mitigations::default(),
        },
        Known {
            name: "Silvermont J1900",
            words: intel(0x30678, 1 << 10 | 1 << 26, 0),
            is: (Intel, 6, 0x37),
            has: &[Meltdown, Mds, MmioStaleData, SpectreV2],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        Known {
            name: "Goldmont N3350",
            // RDCL_NO, RFDS_CLEAR
            words: intel(0x506c9, 1 << 10 | 1 << 26, 0x1000_0001),
            is: (Intel, 6, 0x5c),
            has: &[Rfds, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        Known {
            name: "Alder Lake-S",
            // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO, IF_PSCHANGE, TAA_NO, three *_NO, RFDS_CLEAR
            words: intel(0x90672, UPDATED, 0x1000_e16b),
            is: (Intel, 6, 0x97),
            has: &[Rfds, SpectreV2, SpeculativeStoreBypass],
            plan: Mitigations { clear_buffers: true, ibrs: Some(IbrsMode::SpecCtrl), ..BRANCHES },
        },
        Known {
            name: "K10 Phenom II",
            words: amd(0x100f43, 0, 0),
            is: (Amd, 0x10, 4),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed, FpuPointers],
            plan: Mitigations { clear_fpu_pointers: true, ..bare },
        },
        Known {
            name: "QEMU's translator, -cpu max",
            words: amd(0x60fb1, FP_POINTERS, 0),
            is: (Amd, 0xf, 0x6b),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed],
            plan: bare,
        },
        Known {
            name: "Piledriver FX-8350",
            words: amd(0x600f20, 1 << 12, 0),
            is: (Amd, 0x15, 2),
            has: &[SpectreV2, SpeculativeStoreBypass, Retbleed, FpuPointers],
            plan: old_amd,
        },
        Known {
            name: "Zen 1, EPYC 7551",
            words: amd(0x800f12, 1 << 12, 0),
            is: (Amd, 0x17, 1),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed, FpuPointers],
            plan: old_amd,
        },
        Known {
            name: "Zen 2, EPYC 7742",
            words: amd(0x830f10, AMD_UPDATED | FP_POINTERS, 0),
            is: (Amd, 0x17, 0x31),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed],
            plan: BRANCHES,
        },
        Known {
            name: "Zen 3, EPYC 7763, with VERW_CLEAR and IBPB_BRTYPE",
            words: amd(0xa00f11, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 5 | 1 << 28),
            is: (Amd, 0x19, 1),
            has: &[Tsa, SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { clear_buffers: true, ..BRANCHES },
        },
        Known {
            name: "Zen 4, EPYC 9654, as it was sold",
            words: amd(0xa10f11, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 8),
            is: (Amd, 0x19, 0x11),
            has: &[Tsa, SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { ibrs: Some(IbrsMode::Efer), ..BRANCHES },
        },
        Known {
            name: "Zen 5, EPYC 9755",
            words: CpuidWords {
                leaf_8000_0021_ecx: 1 << 1 | 1 << 2,
                ..amd(0xb00f21, AMD_UPDATED | FP_POINTERS | BTC_NO, 1 << 8 | 1 << 28 | 1 << 30)
            },
            is: (Amd, 0x1a, 2),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso],
            plan: Mitigations { ibrs: Some(IbrsMode::Efer), ..BRANCHES },
        },
        Known {
            name: "Hygon Dhyana",
            words: CpuidWords { vendor: HYGON, ..amd(0x900f02, 1 << 12, 0) },
            is: (Hygon, 0x18, 0),
            has: &[SpectreV2, SpeculativeStoreBypass, Srso, Retbleed, FpuPointers],
            plan: old_amd,
        },
    ]
}

#[test]
fn known_cpus_have_what_their_makers_say() {
    for Known { name, words, is, has, plan } in known() {
        let cpu = CpuFacts::new(words);
        assert_eq!((cpu.vendor, cpu.family, cpu.model), is, "{name}");
        let found: Vec<Flaw> = Flaw::ALL.into_iter().filter(|&flaw| cpu.has(flaw)).collect();
        assert_eq!(found, has, "{name}");
        assert_eq!(Mitigations::plan(&cpu), plan, "{name}");
    }
}

#[test]
fn an_unknown_cpu_has_every_flaw() {
    let strange = CpuFacts::new(CpuidWords { vendor: CENTAUR, ..Default::default() });
    assert!(Flaw::ALL.into_iter().all(|flaw| strange.has(flaw)));
    // A maker's next model: all that its maker does not deny for the whole house.
    let next = CpuFacts::new(intel(0xf_06f5, UPDATED, 0));
    for flaw in [Meltdown, L1tf, Mds, MmioStaleData, Rfds, SpectreV2, Retbleed] {
        assert!(next.has(flaw), "{flaw:?}");
    }
    // Family 15 is what some virtual machines call whatever is below.
    let virtual_cpu = CpuFacts::new(intel(0xf61, 0, 0));
    assert!(virtual_cpu.has(Meltdown) && virtual_cpu.has(L1tf) && virtual_cpu.has(Mds));
}

#[test]
fn a_bit_of_another_maker_denies_nothing() {
    let words = intel(0x506e3, 0, 0);
    let same_bits =
        CpuidWords { leaf_8000_0008_ebx: 1 << 26 | BTC_NO, leaf_8000_0021_eax: 1 << 29, ..words };
    assert!(CpuFacts::new(same_bits).has(SpeculativeStoreBypass));
    assert!(CpuFacts::new(same_bits).has(Retbleed));
}

#[test]
fn an_msr_that_is_not_announced_is_not_believed() {
    let words = CpuidWords { arch_capabilities: !0, ..intel(0x506e3, 0, 0) };
    assert!(CpuFacts::new(words).has(Meltdown));
}

#[test]
fn each_denial_denies_its_flaw_and_no_other() {
    let before = CpuFacts::new(CpuidWords { leaf_7_ebx: RTM, ..intel(0xf_06f5, 0, 1 << 2) });
    let denied: &[(u64, &[Flaw])] = &[
        (1 << 0, &[Meltdown, L1tf]),
        (1 << 4, &[SpeculativeStoreBypass]),
        (1 << 5, &[Mds]),
        (1 << 8, &[Taa]),
        (1 << 13 | 1 << 14 | 1 << 15, &[MmioStaleData]),
        (1 << 13 | 1 << 14, &[]),
        (1 << 27, &[Rfds]),
    ];
    for &(bits, flaws) in denied {
        let after =
            CpuFacts::new(CpuidWords { leaf_7_ebx: RTM, ..intel(0xf_06f5, 0, 1 << 2 | bits) });
        for flaw in Flaw::ALL {
            assert_eq!(after.has(flaw), before.has(flaw) && !flaws.contains(&flaw), "{flaw:?}");
        }
    }
}

#[test]
fn what_is_not_listed_is_not_done_and_said_to_be_open() {
    let cpu = CpuFacts::new(intel(0x306c3, 0, 0));
    let plan = Mitigations::plan(&cpu);
    for (flaw, action, open) in [
        (Meltdown, "none", Open::All),
        (L1tf, "refuse_absent_entries", Open::Nothing),
        (Mds, "none", Open::All),
        (SpectreV2, "rsb_fill", Open::All),
        (SpeculativeStoreBypass, "none", Open::GuestToHypervisor),
    ] {
        let said = plan.action(&cpu, flaw);
        assert_eq!((said.to_string().as_str(), said.open), (action, open), "{flaw:?}");
    }
}

#[test]
fn the_log_says_what_is_done() {
    let cpu = CpuFacts::new(intel(0x506e3, UPDATED, 0));
    let plan = Mitigations { isolated_tables: true, ..Mitigations::plan(&cpu) };
    for (flaw, action, open) in [
        (Meltdown, "isolated_tables", Open::Nothing),
        (L1tf, "refuse_absent_entries+l1d_flush", Open::Nothing),
        (Mds, "verw", Open::Hyperthreads),
        (SpectreV2, "ibpb+rsb_fill", Open::GuestToHypervisor),
        (Retbleed, "ibpb+rsb_fill", Open::GuestToHypervisor),
    ] {
        let said = plan.action(&cpu, flaw);
        assert_eq!((said.to_string().as_str(), said.open), (action, open), "{flaw:?}");
    }
    let cascade_lake = CpuFacts::new(intel(0x50657, UPDATED, 0xab));
    let plan = Mitigations::plan(&cascade_lake);
    let said = plan.action(&cascade_lake, SpectreV2);
    assert_eq!((said.to_string().as_str(), said.open), ("ibpb+rsb_fill+ibrs", Open::WithinDomain));
}

#[test]
fn srso_wants_an_ibpb_that_drops_branch_types() {
    let open = |words| {
        let cpu = CpuFacts::new(words);
        Mitigations::plan(&cpu).action(&cpu, Srso).open
    };
    let zen_4 = |eax21| amd(0xa10f11, AMD_UPDATED | BTC_NO, eax21);
    assert_eq!(open(zen_4(1 << 8)), Open::All);
    assert_eq!(open(zen_4(1 << 8 | 1 << 28)), Open::GuestToHypervisor);
    assert_eq!(open(amd(0x830f10, AMD_UPDATED, 0)), Open::GuestToHypervisor);
    assert_eq!(open(amd(0xb00f21, AMD_UPDATED, 1 << 28 | 1 << 30)), Open::WithinDomain);
}

#[test]
fn fpu_pointers_are_cleared_where_fxrstor_leaves_them() {
    let clears = |words| Mitigations::plan(&CpuFacts::new(words)).clear_fpu_pointers;
    assert!(clears(amd(0x100f43, 0, 0)));
    assert!(!clears(amd(0x830f10, FP_POINTERS, 0)));
    // Intel's load them always.
    assert!(!clears(intel(0x306c3, 0, 0)));
}

#[test]
fn pointers_stay_only_where_no_exception_is_pending() {
    let mut area = [0; 512];
    // The status word is the second: ES is bit 7, B is bit 15.
    for (word, leaves) in [(0u16, true), (0x80, false), (0x8080, false), (0x7f7f, true)] {
        area[2..4].copy_from_slice(&word.to_le_bytes());
        assert_eq!(leaves_fpu_pointers(&area), leaves, "{word:#x}");
    }
}

#[test]
fn words_of_no_cpu_are_decoded_all_the_same() {
    // Total: no word makes anything overflow, and nothing is done that isn't listed.
    for bits in [0, !0, 0xffff_0000, 0x5555_5555] {
        for vendor in [INTEL, AMD, HYGON, CENTAUR] {
            let cpu = CpuFacts::new(CpuidWords {
                vendor,
                signature: bits,
                leaf_1_ecx: bits,
                leaf_7_ebx: bits,
                leaf_7_edx: bits,
                leaf_8000_0008_ebx: bits,
                leaf_8000_0021_eax: bits,
                leaf_8000_0021_ecx: bits,
                arch_capabilities: u64::from(bits) << 16 | u64::from(bits),
            });
            let plan = Mitigations::plan(&cpu);
            for flaw in Flaw::ALL.into_iter().filter(|&flaw| !cpu.has(flaw)) {
                assert!(!cpu.assess(flaw).reason.is_empty());
            }
            assert!(!plan.ibpb || cpu.has_ibpb());
            assert!(!plan.flush_l1d || cpu.has_l1d_flush());
        }
    }
}
