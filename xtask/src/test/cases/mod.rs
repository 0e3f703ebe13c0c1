//! The whole-machine cases, by subject.

mod console;
mod container;
mod cost;
mod grants;
mod images;
mod isolation;
mod kvm;
mod linux;
mod neighbours;
mod processors;
mod scenarios;
mod stale;
mod stress;
mod vcpus;

use super::case::Case;
use super::spec::Spec;
use crate::exit::Exit;
use crate::machine::Start;

/// All of them.
pub(in crate::test) fn all() -> Vec<Case> {
    let mut cases = vec![
        Case::new("hello", "a guest boots, prints, and powers off", vec![Spec::new("hello")]),
        Case::new("hello", "a guest boots, prints, and powers off", vec![Spec::new("hello")])
            .on_xen(),
        Case {
            smp: 2,
            start: Start::Direct,
            log_has: vec!["INFO cpu=1 "],
            ..Case::new(
                "direct-start",
                "Pinfold starts without UEFI firmware, with two CPUs",
                vec![Spec::new("hello")],
            )
        },
        Case {
            log_has: vec!["command line: \"a=1 b=two, three\""],
            ..Case::new(
                "command-line",
                "a guest gets its command line unchanged",
                vec![Spec::new("hello").with_cmdline("a=1 b=two, three")],
            )
        },
        Case {
            log_has: vec!["command line: \"a=1 b=two, three\""],
            ..Case::new(
                "command-line",
                "a guest gets its command line unchanged",
                vec![Spec::new("hello").with_cmdline("a=1 b=two, three")],
            )
            .on_xen()
        },
    ];
    // The probe holds every answer against what Xen was seen to answer: a pass on both is agreement,
    // but for the differences that its own table lists and gives a reason for.
    cases.push(Case::new(
        "probe",
        "each hypercall and trap gives the answer listed in docs/abi-answers.md",
        vec![Spec::new("probe")],
    ));
    cases.push(
        Case::new(
            "probe",
            "each hypercall and trap gives the answer listed in docs/abi-answers.md",
            vec![Spec::new("probe")],
        )
        .on_xen(),
    );
    cases.extend(grants::grants());
    cases.extend(stale::all());
    cases.push(console::keyboard());
    // A neighbour of the one that writes nonsense has a store too.
    cases.push(Case {
        smp: 2,
        log_has: vec!["wrote nonsense to its ring"],
        ..Case::new(
            "store",
            "a guest that writes nonsense to its xenstore ring harms nobody else's store",
            vec![Spec::new("store"), Spec::new("hello")],
        )
    });
    // Guests that fragment their shares together, and one that uses what it was promised.
    let fragmenting =
        |name: &str| Spec::new("store").named(name).with_cmdline("fragment=6 rounds=200");
    cases.push(Case {
        smp: 2,
        limit: 300,
        log_has: vec!["heap late_allocations=0"],
        ..Case::new("store-fragmented", "guests that fragment their store quotas leave the others theirs, and no heap is taken late",
            vec![
                fragmenting("store-1"),
                fragmenting("store-2"),
                Spec::new("store").named("store-3").with_cmdline("rounds=0"),
            ],
        )
    });
    cases.extend(vcpus::all());
    cases.extend(processors::all());
    cases.extend(isolation::all());
    cases.extend(container::all());
    // It meets aliases on purpose, and passes; `--deny-aliases` must not let that through.
    cases.push(Case {
        deny_aliases: true,
        exit: Exit::Aliases,
        ..Case::new(
            "deny-aliases",
            "--deny-aliases fails a run in which an alias was met, though the guests passed",
            vec![Spec::new("probe")],
        )
    });
    // Two that try everything forbidden, at once: neither may notice the other.
    let probes = [Spec::new("probe").named("probe-1"), Spec::new("probe").named("probe-2")];
    cases.push(Case::new(
        "two-probes",
        "two guests that try everything forbidden at once don't notice each other",
        probes.into_iter().chain([Spec::new("hello")]).collect(),
    ));
    // What it measures means nothing without --icount; that it works does.
    cases.push(Case::new(
        "bench",
        "the guest that measures costs runs to its end",
        vec![Spec::new("bench")],
    ));
    cases.push(cost::pin_cost());
    cases.extend(cost::long_calls());
    cases.extend(stress::upcalls());
    cases.extend(stress::stress());
    cases.extend(scenarios::all());
    cases.extend(neighbours::neighbours());
    cases.extend(console::slow_port());
    cases.extend(console::virtio());
    cases.push(images::bad_images());
    cases.extend(linux::destroyed());
    cases.extend(linux::linux());
    cases.push(linux::grub());
    cases.extend(kvm::all());
    cases
}

/// The guest that does one forbidden thing, by its option `do`.
fn misbehave(action: &str) -> Spec {
    Spec::new("misbehave").named(action).with_cmdline(&format!("do={action}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_the_guests_exist() {
        let known = guests::known();
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
            assert!(case.about.len() > 10, "{} says nothing about itself", case.name);
            for package in case.packages() {
                assert!(known.iter().any(|name| name == package), "{package}");
            }
            let mut guests = BTreeSet::new();
            assert!(case.guests.iter().all(|guest| guests.insert(&guest.name)), "{}", case.name);
        }
    }
}
