//! Several domains: what one does, the others must not notice.

use super::misbehave;
use crate::test::case::Case;
use crate::test::spec::{End, Spec};
use pinfold_image::size::Size;

/// Several domains: what one does, the others must not notice.
pub(super) fn neighbours() -> Vec<Case> {
    let hello = || Spec::new("hello");
    vec![
        Case::new(
            "two-domains",
            "two domains run at once",
            vec![hello().named("one"), hello().named("two")],
        ),
        Case::new(
            "twelve-domains",
            "twelve small domains run at once",
            (1..=12).map(|n| hello().named(&format!("n{n}")).with_memory(Size(8 << 20))).collect(),
        ),
        Case {
            smp: 2,
            ..Case::new(
                "two-processors",
                "two domains share two processors",
                vec![hello(), hello().named("other")],
            )
        },
        Case::new(
            "crash-beside-healthy",
            "a domain started after one that crashes runs to its end",
            vec![misbehave("crash").ends(End::Crash), hello()],
        ),
        Case::new(
            "healthy-beside-crash",
            "a domain started before one that crashes runs to its end",
            vec![hello(), misbehave("crash").ends(End::Crash)],
        ),
        Case::new(
            "failure-is-reported",
            "a guest that reports failure decides the exit status",
            vec![misbehave("fail").ends(End::Fail), hello()],
        ),
        Case::new(
            "panic-is-reported",
            "a guest that panics decides the exit status",
            vec![misbehave("panic").ends(End::Fail), hello()],
        ),
        Case::new(
            "watchdog",
            "a guest that stops feeding its watchdog is shut down",
            vec![misbehave("watchdog").ends(End::Watchdog), hello()],
        ),
        Case::new(
            "diagnose-is-refused",
            "a guest without the right to diagnose gets no audits and no frame dumps",
            vec![Spec { unprivileged: true, ..misbehave("diagnose").ends(End::Pass) }],
        ),
        // The spinner is first in line and never calls the hypervisor: only a timer gets past it.
        Case {
            order: Some(("hello", "spin")),
            limit: 240,
            ..Case::new(
                "spinning-cannot-starve",
                "a guest that never calls the hypervisor is preempted",
                vec![misbehave("spin"), hello()],
            )
        },
        // The same ends on Xen, so that they mean the same.
        Case::new(
            "crash",
            "a guest that crashes counts as crashed",
            vec![misbehave("crash").ends(End::Crash)],
        )
        .on_xen(),
        Case::new(
            "fail",
            "a guest that reports failure counts as failed",
            vec![misbehave("fail").ends(End::Fail)],
        )
        .on_xen(),
    ]
}
