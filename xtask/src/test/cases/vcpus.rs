//! The cases about virtual processors: events, time, several of them at once, and any state that
//! they can be left in.

use crate::test::case::Case;
use crate::test::expect::agree::Agree;
use crate::test::spec::{End, Spec};
use pinfold_image::size::Size;

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let events = || vec![Spec::new("events")];
    // Xen is the referee of each result.
    let mut cases = vec![
        Case::new("events", "event channels, timers and runstates behave as specified", events()),
        Case {
            smp: 2,
            ..Case::new(
                "events-on-2",
                "event channels, timers and runstates with two CPUs",
                events(),
            )
        },
        Case::new("events", "event channels, timers and runstates behave as specified", events())
            .on_xen(),
    ];
    cases.extend(several());
    cases.extend(hostile_cpu());
    cases
}

/// Several virtual processors: on as many processors, on fewer, and on one.
fn several() -> Vec<Case> {
    // Without the phase of random table operations, which Xen does not survive.
    const ON_XEN: &str = "phases=iuftrsm";
    let case = |smp, vcpus, words: &str| Case {
        smp,
        limit: 480,
        ..Case::new(
            &format!("smp-{vcpus}-on-{smp}"),
            "vCPUs that change tables at once keep all invariants",
            vec![Spec::new("smp").with_vcpus(vcpus).with_cmdline(words)],
        )
    };
    // Three ways to become a table, thousands of times each, while another vCPU writes to the frame
    // through a translation that no table has any more. QEMU's translator keeps a software TLB for
    // each processor, and so shows a flush that is missing or too late; what a processor's own
    // speculative walks would bring back between the two it does not show.
    let mut cases = vec![Case {
        smp: 2,
        limit: 480,
        ..Case::new(
            "stale-writes",
            "a frame that becomes a table can't be written through a stale translation",
            vec![Spec::new("smp").with_vcpus(2).with_cmdline("phases=s rounds=700 stale")],
        )
    }];
    let peers = [(2, 2, "rounds=150 stale"), (2, 4, "rounds=40"), (1, 3, "rounds=60")]
        .into_iter()
        .flat_map(|(smp, vcpus, words)| {
            [case(smp, vcpus, words), case(smp, vcpus, &format!("{words} {ON_XEN}")).on_xen()]
        });
    cases.extend(peers);
    cases
}

/// Registers, stacks and descriptors with any content: what must be survived, alike on both, and
/// what must end the domain that does it, and no other.
fn hostile_cpu() -> Vec<Case> {
    let deadly = |what: &&str| {
        let guest = Spec::new("hostile_cpu").with_vcpus(2).named(what);
        guest.with_cmdline(&format!("do={what}")).ends(End::Crash)
    };
    let small = |guest: Spec| guest.with_memory(Size(12 << 20));
    let everything: Vec<Spec> = DEADLY.iter().map(|what| small(deadly(what))).collect();
    let healthy = small(Spec::new("hello"));
    let mut cases = vec![Case {
        smp: 2,
        ..Case::new(
            "deadly",
            "states that end a domain end it, and no other",
            everything.into_iter().chain([healthy]).collect(),
        )
    }];
    cases.extend(DEADLY.iter().map(|what| {
        Case::new(&format!("deadly-{what}"), "such a state ends the domain", vec![deadly(what)])
            .on_xen()
    }));
    let survivor = vec![Spec::new("hostile_cpu").with_vcpus(2)];
    cases.push(Case {
        smp: 2,
        agree: Some(Agree { lines: &["CPU"], but: &[], no_more: None }),
        ..Case::new(
            "hostile-cpu",
            "any content of registers, stacks and descriptors is survived alike on Xen",
            survivor,
        )
    });
    cases
}

/// What the guest `hostile_cpu` does, by its option `do`, that ends it.
const DEADLY: &[&str] = &[
    "rsp-low",
    "rsp-zero",
    "rsp-eight",
    "rsp-noncanonical",
    "rsp-hole",
    "rsp-hole-start",
    "rsp-hole-end",
    "rsp-m2p",
    "rsp-last",
    "rsp-table",
    "rsp-read-only",
    "iret-unmapped",
    "iret-hole",
    "iret-noncanonical",
    "iret-end",
    "iret-user-without-root",
    "iret-rsp-noncanonical",
    "no-trap-table",
    "trap-handler-unmapped",
    "user-stack",
    "user-stack-noncanonical",
    "user-stack-hole",
    "event-stack",
    "vcpu-stack",
    "vcpu-rip",
    "vcpu-no-traps",
    "vcpu-selectors",
];
