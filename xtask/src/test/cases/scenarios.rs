//! The cases of the scenarios of stray mappings: each on one virtual processor and on two.

use crate::test::case::{Agree, Case, Spec};

/// The scenarios, by their digit, with the rounds of each form, and what the hypervisor says
/// of the mappings that the broken form leaves.
const SCENARIOS: &[(u32, u32, &[&str])] = &[
    (1, 300, &["region=\"fs_buf\" state=dead"]),
    (2, 300, &["region=\"kmap\" state=dead"]),
    (3, 300, &["region=\"dma:disk0\" state=live", "region=\"dma:net0\" state=live"]),
    (4, 200, &["region=\"moved_buf\" state=live", "RMAP missing va="]),
    (5, 300, &["region=\"pageable\" state=dead"]),
];

/// What may differ on Xen, the referee of what is refused, and why.
const ON_XEN: &[(&str, &str, &str)] = &[
    ("SCENARIO 1 form=broken", "named", SILENT),
    ("SCENARIO 2 form=broken", "named", SILENT),
    ("SCENARIO 3 form=broken", "named", SILENT),
    ("SCENARIO 4 form=broken", "named", SILENT),
    ("SCENARIO 5 form=broken", "named", SILENT),
    ("SCENARIO 4 form=fixed", "cleared", AGAIN),
    ("SCENARIO 4 form=fixed", "flushes", AGAIN),
    ("SCENARIO 4 form=fixed", "pins_after_clear", AGAIN),
];
const SILENT: &str = "Xen does not say which mapping is in the way";
const AGAIN: &str = "only a shootdown tells how much of what is dead was cleared before by a move";

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let case = |scenario: u32, vcpus: u32, rounds: u32, says: &[&'static str]| Case {
        says: says.to_vec(),
        smp: vcpus as u16,
        limit: 240,
        ..Case::new(
            &format!("scenario-{scenario}-{vcpus}"),
            vec![Spec::new("stress").with_vcpus(vcpus).with_cmdline(&format!(
                "phases={scenario} rounds={rounds} seed={}",
                scenario * 10 + vcpus
            ))],
        )
    };
    let mut cases: Vec<Case> = SCENARIOS
        .iter()
        .flat_map(|&(scenario, rounds, says)| {
            [1, 2].map(|vcpus| case(scenario, vcpus, rounds, says))
        })
        .collect();
    // The same seed gives the same on both, to the last mapping cleared.
    cases.push(Case {
        agree: Some(Agree { lines: &["SCENARIO"], but: ON_XEN, no_more: None }),
        ..Case::new(
            "scenarios-agree",
            vec![Spec::new("stress").with_cmdline("phases=12345 rounds=80 seed=31")],
        )
    });
    cases
}
