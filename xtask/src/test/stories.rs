//! The cases of the stories of stray mappings: each on one virtual processor and on two.

use super::case::{Agree, Case, Spec};

/// Stories that there are, by their digit, with the rounds of each form, and what the hypervisor says
/// of the mappings that the naive form leaves.
const STORIES: &[(u32, u32, &[&str])] = &[
    (1, 300, &["region=\"fs_buf\" state=dead"]),
    (2, 300, &["region=\"kmap\" state=dead"]),
    (3, 300, &["region=\"dma:disk0\" state=live", "region=\"dma:net0\" state=live"]),
    (4, 200, &["region=\"moved_buf\" state=live", "RMAP missing va="]),
    (5, 300, &["region=\"pageable\" state=dead"]),
];

/// What may differ on Xen, the referee of what is refused, and why.
const ON_XEN: &[(&str, &str, &str)] = &[
    ("STORY 1 form=naive", "named", SILENT),
    ("STORY 2 form=naive", "named", SILENT),
    ("STORY 3 form=naive", "named", SILENT),
    ("STORY 4 form=naive", "named", SILENT),
    ("STORY 5 form=naive", "named", SILENT),
    ("STORY 4 form=cured", "cleared", AGAIN),
    ("STORY 4 form=cured", "flushes", AGAIN),
    ("STORY 4 form=cured", "pins_after_clear", AGAIN),
];
const SILENT: &str = "Xen does not say which mapping is in the way";
const AGAIN: &str = "only a shootdown tells how much of what is dead was cleared before by a move";

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let case = |story: u32, vcpus: u32, rounds: u32, says: &[&'static str]| Case {
        says: says.to_vec(),
        smp: vcpus as u16,
        limit: 240,
        ..Case::new(
            &format!("story-{story}-{vcpus}"),
            vec![
                Spec::new("stress")
                    .with_vcpus(vcpus)
                    .told(&format!("phases={story} rounds={rounds} seed={}", story * 10 + vcpus)),
            ],
        )
    };
    let mut cases: Vec<Case> = STORIES
        .iter()
        .flat_map(|&(story, rounds, says)| [1, 2].map(|vcpus| case(story, vcpus, rounds, says)))
        .collect();
    // The same seed gives the same on both, to the last mapping cleared.
    cases.push(Case {
        agree: Some(Agree { lines: &["STORY"], but: ON_XEN, no_more: None }),
        ..Case::new(
            "stories-agree",
            vec![Spec::new("stress").told("phases=12345 rounds=80 seed=31")],
        )
    });
    cases
}
