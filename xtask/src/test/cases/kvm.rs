//! Pinfold as a KVM guest: on this machine's KVM, or under KVM in a machine of QEMU's translator
//! ([`crate::nested_kvm`]), where everything takes twenty times as long.

use crate::test::case::Case;
use crate::test::list::When;
use crate::test::spec::Spec;

/// All of them. Those that always run take a few minutes of the translator's time.
pub(super) fn all() -> Vec<Case> {
    let case = |name: &str, about: &str, smp, guests| Case {
        smp,
        kvm: true,
        when: When::Asked,
        limit: 1200,
        log_has: vec![" virtual=yes"],
        ..Case::new(&format!("kvm-{name}"), &format!("{about}, under KVM"), guests)
    };
    let always = |case: Case| Case { when: When::Always, limit: 600, ..case };
    let guest = |package, words: &str| Spec::new(package).with_cmdline(words);
    // Of a processor without its microcode Linux complains with a WARNING, which its test counts. Nested,
    // the emulated processor is such a one.
    let linux = |vcpus| Spec::linux(vcpus, 1, "mitigations=off");
    let events = "event channels, timers and runstates behave as specified";
    vec![
        always(case("hello", "a guest boots on two CPUs", 2, vec![Spec::new("hello")])),
        always(case(
            "stress",
            "random table operations never leave a table writable",
            1,
            vec![guest("stress", "phases=abc seed=21 rounds=20")],
        )),
        case(
            "stress-all",
            "all phases of the stress guest pass on two CPUs",
            2,
            vec![guest("stress", "seed=22 rounds=60").with_vcpus(2)],
        ),
        case("events", events, 1, vec![Spec::new("events")]),
        case("events-on-2", events, 2, vec![Spec::new("events")]),
        case(
            "smp",
            "vCPUs that change tables at once keep all invariants",
            2,
            vec![guest("smp", "rounds=20").with_vcpus(2)],
        ),
        Case {
            log_has: vec!["CACHE id=", "cause=cache_alias wanted=wc present=wb"],
            ..case(
                "memory-types",
                "a mapping that would mix memory types is refused",
                1,
                vec![guest("stress", "phases=m seed=23 rounds=40")],
            )
        },
        case("probe", "each hypercall and trap gives its answer", 1, vec![Spec::new("probe")]),
        // KVM's own nested virtualisation: three levels, where KVM itself is nested.
        case(
            "container-hello",
            "a kernel runs in the hardware container",
            1,
            vec![Spec::new("hello").in_container()],
        ),
        case(
            "container-stress",
            "random table operations in the hardware container never leave a table writable",
            1,
            vec![guest("stress", "seed=24 rounds=20").in_container()],
        ),
        // It tries each port and 24,813 MSRs, each of which takes milliseconds at three levels.
        Case {
            limit: 2400,
            ..case(
                "container-hostile",
                "a kernel in the hardware container can't leave it",
                2,
                vec![guest("hostile_container", "kvm=1").with_vcpus(2).in_container()],
            )
        },
        case("linux", "Debian's Linux passes its test", 1, vec![linux(1)]),
        case("linux-2", "Debian's Linux passes its test on two CPUs", 2, vec![linux(2)]),
    ]
}
