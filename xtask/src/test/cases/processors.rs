//! The cases about flaws of processors: what the log says of them, and what is done; and about their
//! number.
//!
//! QEMU's translator has neither the flaws nor the MSRs, and takes any write of one: shown is that
//! the hypervisor decides by what the processor says, and that guests bear what it does.

use crate::test::case::Case;
use crate::test::spec::Spec;

/// A Skylake with the microcode of 2020, as QEMU shows one: every flaw of Intel's.
const SKYLAKE: &str = "max,-smap,vendor=GenuineIntel,family=6,model=94,stepping=3,\
     x-force-features=on,+spec-ctrl,+stibp,+ssbd,+md-clear";
/// A Zen 1 with IBPB, which leaves the FPU's pointers where they are.
const ZEN: &str = "max,-smap,vendor=AuthenticAMD,family=23,model=1,stepping=2,\
     x-force-features=on,+ibpb,-xsaveerptr";

/// A Haswell: L1TF, and nothing that Linux warns of.
const HASWELL: &str = "max,-smap,vendor=GenuineIntel,family=6,model=60,stepping=3,\
     x-force-features=on,+spec-ctrl,+stibp,+ssbd,+md-clear";

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let two = || vec![Spec::new("stress").with_cmdline("seed=5 rounds=20"), Spec::new("hello")];
    vec![
        // One domain has nobody to be kept from.
        Case {
            log_has: vec![
                "cpu flaw=meltdown affected=no action=none reason=\"AMD\"",
                "cpu flaw=spectre_v2 affected=yes action=rsb_fill",
                "cpu=0 domain_switches=0 ibpb=0 rsb_fill=0 l1d_flush=0",
            ],
            ..Case::new(
                "flaws-one-domain",
                "with one domain, no flush is done for a processor's flaws",
                vec![Spec::new("hello")],
            )
        },
        Case {
            cpu: Some(SKYLAKE),
            log_has: vec![
                "cpu flaw=meltdown affected=yes",
                "cpu flaw=l1tf affected=yes action=refuse_absent_entries open=nothing",
                "cpu flaw=mds affected=yes action=verw open=hyperthreads",
                "cpu flaw=spectre_v2 affected=yes action=ibpb+rsb_fill open=guest_to_hypervisor",
                "cpu flaw=ssb affected=yes action=none",
                "cpu flaw=srso affected=no",
                "cpu flaw=retbleed affected=yes action=ibpb+rsb_fill",
                "cpu=0 domain_switches=",
            ],
            log_lacks: vec!["domain_switches=0", " ibpb=0", " rsb_fill=0"],
            ..Case::new(
                "flaws-skylake",
                "on a Skylake the log names each flaw and what is done, and switches flush",
                two(),
            )
        },
        Case {
            cpu: Some(ZEN),
            smp: 2,
            log_has: vec![
                "cpu flaw=mds affected=no",
                "cpu flaw=srso affected=yes action=ibpb open=guest_to_hypervisor",
                "cpu flaw=fpu_pointers affected=yes action=clear_fpu_pointers open=nothing",
                "cpu=1 domain_switches=",
            ],
            ..Case::new(
                "flaws-zen",
                "on a Zen 1 the log names each flaw, and switches flush",
                two(),
            )
        },
        Case {
            smp: 8,
            log_has: vec!["cpus listed=8 running=8"],
            ..Case::new(
                "eight-processors",
                "a machine with eight processors uses all of them",
                vec![Spec::new("hello")],
            )
        },
        // However such an entry is made, and that it is taken where there is no such flaw.
        Case {
            cpu: Some(SKYLAKE),
            log_has: vec!["op=pin_l1", "op=update", "op=store", "cause=absent_names_memory"],
            ..Case::new(
                "absent-l1tf",
                "with L1TF, an absent entry that names memory is refused, however it is made",
                vec![Spec::new("misbehave").with_cmdline("do=absent-l1tf")],
            )
        },
        Case::new(
            "absent",
            "without L1TF, an absent entry may name memory",
            vec![Spec::new("misbehave").with_cmdline("do=absent")],
        ),
        // Linux stores addresses in absent entries inverted, so none is refused.
        Case {
            cpu: Some(HASWELL),
            limit: 600,
            deny_refusals: true,
            log_has: vec!["cpu flaw=l1tf affected=yes action=refuse_absent_entries open=nothing"],
            ..Case::new(
                "linux-l1tf",
                "Linux runs on a processor with L1TF without a refusal",
                vec![Spec::linux(1, 1, "")],
            )
        },
    ]
}
