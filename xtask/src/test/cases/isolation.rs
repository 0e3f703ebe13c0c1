//! The cases with page-table isolation: guests run on roots without the hypervisor's memory, as on a
//! processor with Meltdown. Whatever a guest sees must be as without.

use crate::test::case::{Agree, Case, End, Spec};
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
        Case::new("hello", vec![Spec::new("hello")]),
        Case::new("probe", vec![Spec::new("probe")]),
        Case::new("stress", vec![Spec::new("stress").with_cmdline("seed=21 rounds=100")]),
        Case::new("events", vec![Spec::new("events")]),
        on_two(Case {
            agree: Some(Agree { lines: &["CPU"], but: &[], no_more: None }),
            ..Case::new("hostile-cpu", vec![Spec::new("hostile_cpu").with_vcpus(2)])
        }),
        on_two(Case::new(
            "deadly",
            deadly.into_iter().chain([small(Spec::new("hello"))]).collect(),
        )),
        on_two(Case {
            says: vec!["isolation=on cpu=1 mapped_pages="],
            ..Case::new(
                "smp-2-on-2",
                vec![Spec::new("smp").with_vcpus(2).with_cmdline("rounds=150 stale")],
            )
        }),
        on_two(Case::new(
            "smp-4-on-2",
            vec![Spec::new("smp").with_vcpus(4).with_cmdline("rounds=40")],
        )),
        on_two(Case::new(
            "neighbours",
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
        says: vec![
            "isolation=on wanted=auto",
            "flaw=meltdown affected=yes action=isolated_tables open=nothing",
            "isolation=on cpu=0 mapped_pages=",
        ],
        ..Case::new("isolated-if-needed", vec![Spec::new("hello")])
    });
    cases
}
