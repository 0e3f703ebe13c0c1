//! The cases in the hardware container: kernels in ring 0 of SVM guests.

use crate::test::case::Case;
use crate::test::spec::{End, Spec};

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let on_two = |case: Case| Case { smp: 2, limit: 480, ..case };
    let stress = |words: &str| Spec::new("stress").with_cmdline(words);
    // What is refused, and what is told of it, is the same as outside.
    let as_outside = |case: Case| Case { as_outside: true, limit: 240, ..case };
    let mut cases = vec![
        Case::new("hello", "a guest boots and powers off", vec![Spec::new("hello")]),
        as_outside(Case::new(
            "stress",
            "all phases of the stress guest: refusals and reports are as without",
            vec![stress("seed=1 rounds=100")],
        )),
        as_outside(Case::new(
            "stress-memory-types",
            "memory types and alias upcalls: refusals and reports are as without",
            vec![stress("phases=mu seed=11 rounds=100")],
        )),
        on_two(Case::new(
            "smp-2",
            "two vCPUs on two CPUs change tables while the other uses stale translations",
            vec![Spec::new("smp").with_vcpus(2).with_cmdline("rounds=150 stale")],
        )),
        on_two(Case::new("events-2", "event channels and timers", vec![Spec::new("events")])),
        Case::new(
            "grants",
            "a guest grants frames to itself and maps, copies and transfers them",
            vec![Spec::new("grants")],
        ),
        Case {
            canaries: true,
            log_has: vec![" canaries="],
            log_lacks: vec![" canaries=0 "],
            ..Case::new(
                "stale-canaries",
                "canaries in frames given back stay untouched",
                vec![Spec::new("stale").with_cmdline("rounds=60 seed=11")],
            )
        },
        on_two(Case::new(
            "stale-2",
            "frames given back can't be written through stale translations, two vCPUs",
            vec![Spec::new("stale").with_vcpus(2).with_cmdline("rounds=80 seed=2")],
        )),
        Case {
            order: Some(("attacker", "victim")),
            ..on_two(Case::new(
                "stale-beside-victim",
                "a victim's memory stays its own beside an attacker",
                vec![
                    Spec::new("stale")
                        .named("attacker")
                        .with_cmdline("role=attacker peers=2 rounds=100 crossed=3 seed=3"),
                    Spec::new("stale").named("victim").with_cmdline("role=victim peers=1 seed=4"),
                ],
            ))
        },
    ];
    cases = cases.into_iter().map(Case::contained).collect();
    cases.extend(beside_others());
    cases.extend(hostile());
    cases
}

/// Kernels that try to leave the container, to stop its CPU, or to take it along when they end.
fn hostile() -> Vec<Case> {
    const DEADLY: [&str; 12] = [
        "triple-fault",
        "poisoned-idt",
        "idt-in-the-hypervisor",
        "idt-not-canonical",
        "poisoned-gates",
        "task-gate",
        "unmapped-idt",
        "real-mode",
        "empty-root",
        "empty-gdt",
        "no-stack",
        "stack-in-the-hypervisor",
    ];
    const LOOPS: [&str; 9] = [
        "db-loop",
        "ac-loop",
        "int3-loop",
        "fault-loop",
        "pause",
        "cpuid-loop",
        "cr3-loop",
        "vmmcall-loop",
        "step-loop",
    ];
    let mode = |mode: &str| {
        let guest = Spec::new("hostile_container").named(mode).in_container();
        guest.with_cmdline(&format!("mode={mode}"))
    };
    let beside = || Spec::new("grants").in_container();
    let deadly = DEADLY.iter().map(|name| {
        let by_itself = matches!(*name, "no-stack" | "stack-in-the-hypervisor");
        mode(name).ends(if by_itself { End::Fail } else { End::Crash })
    });
    let loops = LOOPS.iter().map(|name| mode(name).destroyed_after(3000));
    vec![
        Case {
            smp: 2,
            limit: 300,
            ..Case::new(
                "container-hostile",
                "no instruction, MSR, port, root or address leads out of the container",
                vec![Spec::new("hostile_container").with_vcpus(2).in_container()],
            )
        },
        Case::new(
            "container-hostile-deadly",
            "a kernel that can't handle its own faults ends only itself",
            deadly.chain([beside()]).collect(),
        ),
        Case::new(
            "container-hostile-loops",
            "a kernel that loops in faults, exits or without end doesn't hold its CPU",
            loops.chain([beside()]).collect(),
        ),
    ]
}

/// Guests in the container beside others.
fn beside_others() -> Vec<Case> {
    let hello = || Spec::new("hello");
    vec![
        Case {
            smp: 2,
            log_has: vec!["container svm asids="],
            ..Case::new(
                "container-two",
                "guests in the container and in ring 3 run side by side",
                vec![
                    Spec::new("stress").with_cmdline("seed=3 rounds=60").in_container(),
                    Spec::new("stress").named("ring-3").with_cmdline("seed=4 rounds=60"),
                    hello().in_container(),
                ],
            )
        },
        Case::new(
            "container-refused-without-feature",
            "a kernel that doesn't declare ring 0 isn't started in the container",
            vec![
                Spec::linux(1, 1, "")
                    .in_container()
                    .ends(End::Refused("whose note FEATURES has `supervisor_mode_kernel`")),
                hello().in_container(),
            ],
        ),
        Case {
            cpu: Some("max,-smap,-svm"),
            ..Case::new(
                "container-refused-without-svm",
                "on a CPU without SVM a guest in the container isn't started",
                vec![
                    hello().named("inside").in_container().ends(End::Refused("container: ")),
                    hello(),
                ],
            )
        },
    ]
}
