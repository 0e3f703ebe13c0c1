//! The cases of the scenarios of stray mappings: each on one virtual processor and on two.

use crate::test::case::Case;
use crate::test::expect::agree::Agree;
use crate::test::spec::Spec;

/// A scenario: its digit in `phases=`, the rounds of each form, what its cases show, and what the
/// log says of the mappings that the broken form leaves.
type Scenario = (u32, u32, &'static str, &'static [&'static str]);

const SCENARIOS: &[Scenario] = &[
    (
        1,
        300,
        "mappings of a buffer cache that unmaps lazily are named, and gone in the fixed form",
        &["region=\"fs_buf\" state=dead"],
    ),
    (
        2,
        300,
        "mappings left by swapping through atomic slots are named, and gone in the fixed form",
        &["region=\"kmap\" state=dead"],
    ),
    (
        3,
        300,
        "mappings of devices whose buffers were freed are named, and gone in the fixed form",
        &["region=\"dma:disk0\" state=live", "region=\"dma:net0\" state=live"],
    ),
    (
        4,
        200,
        "mappings that a moved buffer leaves are named, and gone in the fixed form",
        &["region=\"moved_buf\" state=live", "RMAP missing va="],
    ),
    (
        5,
        300,
        "mappings of objects that are paged out are named, and gone in the fixed form",
        &["region=\"pageable\" state=dead"],
    ),
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
    let case = |&(scenario, rounds, about, log_has): &Scenario, vcpus: u32| Case {
        log_has: log_has.to_vec(),
        smp: vcpus as u16,
        limit: 240,
        ..Case::new(
            &format!("scenario-{scenario}-{vcpus}"),
            about,
            vec![Spec::new("stress").with_vcpus(vcpus).with_cmdline(&format!(
                "phases={scenario} rounds={rounds} seed={}",
                scenario * 10 + vcpus
            ))],
        )
    };
    let mut cases: Vec<Case> =
        SCENARIOS.iter().flat_map(|scenario| [1, 2].map(|vcpus| case(scenario, vcpus))).collect();
    // The same seed gives the same on both, to the last mapping cleared.
    cases.push(Case {
        agree: Some(Agree { lines: &["SCENARIO"], but: ON_XEN, no_more: None }),
        ..Case::new(
            "scenarios-agree",
            "with the same seed, all five scenarios are refused alike on Pinfold and Xen",
            vec![Spec::new("stress").with_cmdline("phases=12345 rounds=80 seed=31")],
        )
    });
    cases
}
