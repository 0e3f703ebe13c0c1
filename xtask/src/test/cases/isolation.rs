//! The cases with page-table isolation: guests run on roots without the hypervisor's memory, as on a
//! processor with Meltdown. Whatever a guest sees must be as without.

use crate::test::case::Case;
use crate::test::expect::agree::Agree;
use crate::test::spec::{End, Spec};
use pinfold_image::size::Size;

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let small = |guest: Spec| guest.with_memory(Size(12 << 20));
    // Selectors that `iretq` refuses, stacks that cannot be pushed to: the ways out and in again.
    let deadly = ["iret-hole", "vcpu-selectors", "user-stack-hole", "vcpu-rip", "event-stack"];
    let deadly = deadly.map(|what| {
        let guest = Spec::new("hostile_cpu").with_vcpus(2).named(what);
        small(guest.with_cmdline(&format!("do={what}")).ends(End::Crash))
    });
    let on_two = |case: Case| Case { smp: 2, limit: 480, ..case };
    let cases = vec![
        Case::new("hello", "a guest boots and powers off", vec![Spec::new("hello")]),
        Case::new("probe", "hypercalls and traps answer the same", vec![Spec::new("probe")]),
        Case::new(
            "stress",
            "random table operations never leave a table writable",
            vec![Spec::new("stress").with_cmdline("seed=21 rounds=100")],
        ),
        Case::new("events", "event channels and timers", vec![Spec::new("events")]),
        on_two(Case {
            agree: Some(Agree { lines: &["CPU"], but: &[], no_more: None }),
            ..Case::new(
                "hostile-cpu",
                "any register content is survived alike on Xen",
                vec![Spec::new("hostile_cpu").with_vcpus(2)],
            )
        }),
        on_two(Case::new(
            "deadly",
            "states that end a domain end it, and no other",
            deadly.into_iter().chain([small(Spec::new("hello"))]).collect(),
        )),
        on_two(Case {
            log_has: vec!["isolation=on cpu=1 mapped_pages="],
            ..Case::new(
                "smp-2-on-2",
                "two vCPUs on two CPUs change tables while the other uses stale translations",
                vec![Spec::new("smp").with_vcpus(2).with_cmdline("rounds=150 stale")],
            )
        }),
        on_two(Case::new(
            "smp-4-on-2",
            "four vCPUs on two CPUs change tables at once",
            vec![Spec::new("smp").with_vcpus(4).with_cmdline("rounds=40")],
        )),
        on_two(Case::new(
            "neighbours",
            "four different guests side by side",
            vec![
                Spec::new("stress").with_cmdline("seed=22 rounds=40"),
                Spec::new("probe"),
                Spec::new("grants"),
                Spec::new("hello"),
            ],
        )),
    ];
    let mut cases: Vec<Case> = cases.into_iter().map(Case::isolated).collect();
    // Where the processor has Meltdown nobody has to ask.
    cases.push(Case {
        cpu: Some("Skylake-Client-v1,-smap"),
        log_has: vec![
            "isolation=on wanted=auto",
            "flaw=meltdown affected=yes action=isolated_tables open=nothing",
            "isolation=on cpu=0 mapped_pages=",
        ],
        ..Case::new(
            "isolated-if-needed",
            "page tables are isolated unasked on a processor with Meltdown",
            vec![Spec::new("hello")],
        )
    });
    cases
}
