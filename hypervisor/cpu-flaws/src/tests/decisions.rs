//! Single decisions.

use super::*;
use crate::flaw::Flaw::{self, *};
use crate::{CpuFeatures, Exposure, Mitigations, VariantArray, fxrstor_keeps_fpu_pointers};
use std::string::ToString;

#[test]
fn names_are_those_of_the_log() {
    let names = [
        "meltdown",
        "l1tf",
        "mds",
        "taa",
        "mmio_stale_data",
        "rfds",
        "tsa",
        "spectre_v2",
        "ssb",
        "srso",
        "retbleed",
        "fpu_pointers",
    ];
    assert!(Flaw::VARIANTS.iter().map(|flaw| flaw.name()).eq(names));
    assert_eq!(Exposure::GuestToHypervisor.name(), "guest_to_hypervisor");
    assert_eq!(Exposure::Nothing.name(), "nothing");
}

#[test]
fn an_unknown_cpu_has_every_flaw() {
    let strange = CpuFeatures::new(CpuidWords { vendor: CENTAUR, ..Default::default() });
    assert!(Flaw::VARIANTS.iter().copied().all(|flaw| strange.has(flaw)));
    // The next model of a vendor: has all flaws that the vendor doesn't rule out for all models.
    let next = CpuFeatures::new(intel(0xf_06f5, UPDATED, 0));
    for flaw in [Meltdown, L1tf, Mds, MmioStaleData, Rfds, SpectreV2, Retbleed] {
        assert!(next.has(flaw), "{flaw:?}");
    }
    // Some virtual machines report family 15, whatever the CPU below is.
    let virtual_cpu = CpuFeatures::new(intel(0xf61, 0, 0));
    assert!(virtual_cpu.has(Meltdown) && virtual_cpu.has(L1tf) && virtual_cpu.has(Mds));
}

#[test]
fn feature_bits_of_another_vendor_are_ignored() {
    let words = intel(0x506e3, 0, 0);
    let same_bits =
        CpuidWords { leaf_8000_0008_ebx: 1 << 26 | BTC_NO, leaf_8000_0021_eax: 1 << 29, ..words };
    assert!(CpuFeatures::new(same_bits).has(SpeculativeStoreBypass));
    assert!(CpuFeatures::new(same_bits).has(Retbleed));
}

#[test]
fn arch_capabilities_count_only_if_announced() {
    let words = CpuidWords { arch_capabilities: !0, ..intel(0x506e3, 0, 0) };
    assert!(CpuFeatures::new(words).has(Meltdown));
}

#[test]
fn each_feature_bit_rules_out_its_flaw_and_no_other() {
    let before = CpuFeatures::new(CpuidWords { leaf_7_ebx: RTM, ..intel(0xf_06f5, 0, 1 << 2) });
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
            CpuFeatures::new(CpuidWords { leaf_7_ebx: RTM, ..intel(0xf_06f5, 0, 1 << 2 | bits) });
        for &flaw in Flaw::VARIANTS {
            assert_eq!(after.has(flaw), before.has(flaw) && !flaws.contains(&flaw), "{flaw:?}");
        }
    }
}

#[test]
fn an_old_cpu_has_no_mitigations_and_reports_exposure() {
    let cpu = CpuFeatures::new(intel(0x306c3, 0, 0));
    let plan = Mitigations::for_cpu(&cpu);
    for (flaw, action, exposure) in [
        (Meltdown, "none", Exposure::All),
        (L1tf, "refuse_absent_entries", Exposure::Nothing),
        (Mds, "none", Exposure::All),
        (SpectreV2, "rsb_fill", Exposure::All),
        (SpeculativeStoreBypass, "none", Exposure::GuestToHypervisor),
    ] {
        let found = plan.action(&cpu, flaw);
        assert_eq!((found.to_string().as_str(), found.exposure), (action, exposure), "{flaw:?}");
    }
}

#[test]
fn actions_name_the_mitigations_in_use() {
    let cpu = CpuFeatures::new(intel(0x506e3, UPDATED, 0));
    let plan = Mitigations { isolated_tables: true, ..Mitigations::for_cpu(&cpu) };
    for (flaw, action, exposure) in [
        (Meltdown, "isolated_tables", Exposure::Nothing),
        (L1tf, "refuse_absent_entries+l1d_flush", Exposure::Nothing),
        (Mds, "verw", Exposure::Hyperthreads),
        (SpectreV2, "ibpb+rsb_fill", Exposure::GuestToHypervisor),
        (Retbleed, "ibpb+rsb_fill", Exposure::GuestToHypervisor),
    ] {
        let found = plan.action(&cpu, flaw);
        assert_eq!((found.to_string().as_str(), found.exposure), (action, exposure), "{flaw:?}");
    }
    let cascade_lake = CpuFeatures::new(intel(0x50657, UPDATED, 0xab));
    let plan = Mitigations::for_cpu(&cascade_lake);
    let found = plan.action(&cascade_lake, SpectreV2);
    assert_eq!(
        (found.to_string().as_str(), found.exposure),
        ("ibpb+rsb_fill+ibrs", Exposure::WithinDomain)
    );
}

#[test]
fn srso_needs_an_ibpb_that_drops_branch_types() {
    let exposure = |words| {
        let cpu = CpuFeatures::new(words);
        Mitigations::for_cpu(&cpu).action(&cpu, Srso).exposure
    };
    let zen_4 = |eax21| amd(0xa10f11, AMD_UPDATED | BTC_NO, eax21);
    assert_eq!(exposure(zen_4(1 << 8)), Exposure::All);
    assert_eq!(exposure(zen_4(1 << 8 | 1 << 28)), Exposure::GuestToHypervisor);
    assert_eq!(exposure(amd(0x830f10, AMD_UPDATED, 0)), Exposure::GuestToHypervisor);
    assert_eq!(exposure(amd(0xb00f21, AMD_UPDATED, 1 << 28 | 1 << 30)), Exposure::WithinDomain);
}

#[test]
fn fpu_pointers_are_cleared_where_fxrstor_may_keep_them() {
    let clears = |words| Mitigations::for_cpu(&CpuFeatures::new(words)).clear_fpu_pointers;
    assert!(clears(amd(0x100f43, 0, 0)));
    assert!(!clears(amd(0x830f10, FP_POINTERS, 0)));
    // Intel CPUs always load them.
    assert!(!clears(intel(0x306c3, 0, 0)));
}

#[test]
fn fxrstor_keeps_pointers_only_without_a_pending_exception() {
    let mut area = [0; 512];
    // The status word is the second: ES is bit 7, B is bit 15.
    for (word, leaves) in [(0u16, true), (0x80, false), (0x8080, false), (0x7f7f, true)] {
        area[2..4].copy_from_slice(&word.to_le_bytes());
        assert_eq!(fxrstor_keeps_fpu_pointers(&area), leaves, "{word:#x}");
    }
}

#[test]
fn any_words_are_decoded_without_overflow() {
    // And no mitigation is used that the words don't announce.
    for bits in [0, !0, 0xffff_0000, 0x5555_5555] {
        for vendor in [INTEL, AMD, HYGON, CENTAUR] {
            let cpu = CpuFeatures::new(CpuidWords {
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
            let plan = Mitigations::for_cpu(&cpu);
            for flaw in Flaw::VARIANTS.iter().copied().filter(|&flaw| !cpu.has(flaw)) {
                assert!(!cpu.assess(flaw).reason.is_empty());
            }
            assert!(!plan.ibpb || cpu.has_ibpb());
            assert!(!plan.flush_l1d || cpu.has_l1d_flush());
        }
    }
}
