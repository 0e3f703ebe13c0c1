//! Grants: frames that domains let each other map, copy and take.

use crate::test::case::Case;
use crate::test::spec::Spec;

/// Lending frames: to oneself, with Xen as the referee; to another domain; and to the end of either.
pub(super) fn grants() -> Vec<Case> {
    let guest = || Spec::new("grants");
    let pair = |granter: &str, borrower: &str| {
        vec![
            guest().named("granter").with_cmdline(&format!("role=granter peer=2 {granter}")),
            guest().named("borrower").with_cmdline(&format!("role=borrower peer=1 {borrower}")),
        ]
    };
    vec![
        Case::new(
            "grants",
            "a guest grants frames to itself and maps, copies and transfers them",
            vec![guest()],
        ),
        Case::new(
            "grants",
            "a guest grants frames to itself and maps, copies and transfers them",
            vec![guest()],
        )
        .on_xen(),
        Case {
            smp: 2,
            order: Some(("granter", "borrower")),
            log_has: vec!["kept=1 stuck=0"],
            ..Case::new(
                "granter-ends-first",
                "a granter ends while its frames are mapped: they stay until they are unmapped",
                pair("", "last"),
            )
        },
        Case {
            smp: 2,
            order: Some(("borrower", "granter")),
            ..Case::new(
                "borrower-ends-first",
                "a borrower ends with mapped grants: the granter gets its frames back",
                pair("last", ""),
            )
        },
        churn(1, 5_000),
        churn(2, 500),
    ]
}

/// Two domains on two processors that lend each other pages, and take them back, in no order.
fn churn(seed: u32, rounds: u32) -> Case {
    let guest = |name: &str, peer: u32, words: &str| {
        let cmdline =
            format!("role=churn peer={peer} seed={} rounds={rounds} {words}", seed * 2 + peer);
        Spec::new("grants").named(name).with_cmdline(&cmdline)
    };
    Case {
        smp: 2,
        order: Some(("one", "two")),
        ..Case::new(
            &format!("grants-churn-{seed}"),
            "two domains grant each other pages and revoke them in random order",
            vec![guest("one", 2, ""), guest("two", 1, "last")],
        )
    }
}
