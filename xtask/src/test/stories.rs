//! The cases of the stories of stray mappings: each on one virtual processor and on two.

use super::case::{Case, Spec};

/// Stories that there are, by their digit, with the rounds of each form.
const STORIES: &[(u32, u32)] = &[(1, 300), (4, 200)];

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let case = |story: u32, vcpus: u32, rounds: u32| Case {
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
    STORIES
        .iter()
        .flat_map(|&(story, rounds)| [1, 2].map(|vcpus| case(story, vcpus, rounds)))
        .collect()
}
