//! The stress guest: random table operations, memory types and alias upcalls.

use super::misbehave;
use crate::test::case::Case;
use crate::test::expect::agree::Agree;
use crate::test::spec::{End, Spec};
use pinfold_image::CachePolicy;

/// The stress guest: several seeds, on both hypervisors, and among others.
pub(super) fn stress() -> Vec<Case> {
    let stress = |words: &str| Spec::new("stress").with_cmdline(words);
    let mut cases: Vec<Case> = (1..=4)
        .map(|seed| {
            Case::new(
                &format!("stress-seed-{seed}"),
                "random table operations never leave a table writable",
                vec![stress(&format!("seed={seed} rounds=200"))],
            )
        })
        .collect();
    // Logging changes nothing: what the guest sees and prints is the same at every level.
    cases.push(Case {
        at_every_level: true,
        // Whoever asked is found on the guest's stack.
        log_has: vec!["cause=writable_alias", " callers=0xffffffff8"],
        ..Case::new(
            "log-levels",
            "the guest sees and prints the same at every log level",
            vec![stress("seed=9 rounds=40")],
        )
    });
    cases.push(Case {
        agree: Some(Agree {
            lines: &["STRAY", "POLICY", "HOSTILE"],
            but: &[
                ("STRAY", "named", "Xen does not say which mapping is in the way"),
                ("HOSTILE", "tried", "pinfold_op is only tried where there is one"),
            ],
            no_more: None,
        }),
        ..Case::new(
            "stress-agrees",
            "with the same seed, random table operations are refused alike on Pinfold and Xen",
            vec![stress("seed=7 rounds=200")],
        )
    });
    cases.extend(memory_types());
    // Whose a mapping is and whether it is in use; and what all frames are at the end.
    cases.push(Case {
        log_has: vec![
            "region=\"vmap\" state=dead",
            "region=\"kmap\" state=dead",
            "region=\"vmap\" state=live",
            "d1 FRAMES first=0x",
            " w*",
        ],
        ..Case::new(
            "stress-tells",
            "the log names the region and state of each stray mapping, and the frames at the end",
            vec![Spec { dump_frames: true, ..stress("phases=a seed=8 rounds=10") }],
        )
    });
    cases.push(Case {
        limit: 240,
        ..Case::new(
            "everything-at-once",
            "five guests, two of which crash or spin, end as each would alone",
            vec![
                stress("seed=9 rounds=100"),
                Spec::new("probe"),
                misbehave("crash").ends(End::Crash),
                misbehave("spin"),
                stress("seed=10 rounds=100").named("stress-2"),
            ],
        )
    });
    cases
}

/// Memory types: what mixing them leads to under each policy, and that the fixed form mixes none.
fn memory_types() -> Vec<Case> {
    let stress = |words: &str| Spec::new("stress").with_cmdline(words);
    let fixed = |name: &str, vcpus| Case {
        limit: 300,
        deny_aliases: true,
        deny_refusals: true,
        log_has: vec!["MEMORY form=fixed rounds=10000 refused=0"],
        ..Case::new(
            name,
            "the fixed form of the driver never mixes memory types",
            vec![Spec { vcpus, ..stress("phases=m form=fixed seed=13 rounds=10000") }],
        )
    };
    vec![
        Case {
            log_has: vec![
                "CACHE id=",
                "cause=cache_alias wanted=wc present=wb",
                "op=pin_l1",
                "op=store",
                "type=uc",
                "region=\"vmap\" state=dead",
                "region=\"kmap\" state=dead",
            ],
            ..Case::new(
                "memory-types",
                "a mapping that would mix memory types is refused, and the log names the others",
                vec![stress("phases=m seed=11 rounds=100")],
            )
        },
        Case {
            log_has: vec!["policy=report", "present=mixed", "type=wp"],
            ..Case::new(
                "memory-types-reported",
                "under --cache report, mixed memory types are logged and allowed",
                vec![Spec {
                    cache: CachePolicy::Report,
                    ..stress("phases=m cache=report seed=12 rounds=100")
                }],
            )
        },
        fixed("memory-types-fixed", 1),
        fixed("memory-types-fixed-2", 2),
    ]
}

/// Pins that heal: on one vCPU, on two at once, and where there is no such thing.
pub(super) fn upcalls() -> Vec<Case> {
    let case = |vcpus: u32| Case {
        smp: vcpus as u16,
        log_has: vec!["cleared_by=upcall", "UPCALL rounds="],
        ..Case::new(
            &format!("upcall-{vcpus}"),
            "a pin refused for stray mappings succeeds after the guest cleared them in an upcall",
            // After what leaves mappings of all kinds behind.
            vec![Spec::new("stress").with_vcpus(vcpus).with_cmdline("phases=mu rounds=200")],
        )
    };
    let on_xen = Case {
        log_has: vec!["UPCALL skipped"],
        ..Case::new(
            "upcall",
            "a guest without alias upcalls skips them",
            vec![Spec::new("stress").with_cmdline("phases=u rounds=200")],
        )
    };
    vec![case(1), case(2), on_xen.on_xen()]
}
