//! The cases about stale translations: writes to frames that a guest gave back, by what a processor
//! remembers of a mapping that is gone.

use crate::test::case::Case;
use crate::test::spec::Spec;

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let guest = || Spec::new("stale");
    let one = || vec![guest().with_cmdline("rounds=80")];
    let two = || vec![guest().with_vcpus(2).with_cmdline("rounds=80 seed=2")];
    // Xen gives out handles in another order, and so doesn't say when it wants a frame for them.
    const ON_XEN: &str = "rounds=80 phases=grxm";
    let mut cases = vec![
        Case::new(
            "stale",
            "frames given back can't be written through stale translations, one vCPU",
            one(),
        ),
        Case {
            smp: 2,
            ..Case::new(
                "stale-2",
                "frames given back can't be written through stale translations, two vCPUs",
                two(),
            )
        },
        Case::new(
            "stale",
            "frames given back can't be written through stale translations, one vCPU",
            vec![guest().with_cmdline(ON_XEN)],
        )
        .on_xen(),
        Case {
            smp: 2,
            ..Case::new(
                "stale-2",
                "frames given back can't be written through stale translations, two vCPUs",
                vec![guest().with_vcpus(2).with_cmdline(ON_XEN)],
            )
        }
        .on_xen(),
    ];
    cases.extend(beside_a_victim());
    cases.extend(watched());
    cases
}

/// The hypervisor takes some of what was given back, and watches it.
fn watched() -> Vec<Case> {
    let guest = |name: &str, words: &str| Spec::new("stale").named(name).with_cmdline(words);
    let case = |name: &str, about: &str, smp, guests| Case {
        smp,
        canaries: true,
        log_has: vec![" canaries="],
        log_lacks: vec![" canaries=0 "],
        ..Case::new(name, about, guests)
    };
    vec![
        case(
            "stale-canaries",
            "canaries in frames given back stay untouched, one vCPU",
            1,
            vec![guest("stale", "rounds=60 seed=11")],
        ),
        case(
            "stale-canaries-2",
            "canaries in frames given back stay untouched, two vCPUs",
            2,
            vec![guest("stale", "rounds=60 seed=12").with_vcpus(2)],
        ),
        case(
            "stale-canaries-beside-victim",
            "canaries stay untouched while a domain attacks another",
            2,
            vec![
                guest("attacker", "role=attacker peers=2 rounds=100 seed=13"),
                guest("victim", "role=victim peers=1 seed=14"),
            ],
        ),
    ]
}

/// Attackers beside a domain that checks its own memory. On one processor the switch from one to
/// the other is a flush, so nothing but the hypervisor's own frames can be reached; on two they run
/// at the same time. The victim ends last, with what the others left.
fn beside_a_victim() -> Vec<Case> {
    let guest = |name: &str, words: &str| Spec::new("stale").named(name).with_cmdline(words);
    let pair = |rounds: u32, crossed: u32| {
        let attacker = format!("role=attacker peers=2 rounds={rounds} crossed={crossed} seed=3");
        vec![guest("attacker", &attacker), guest("victim", "role=victim peers=1 seed=4")]
    };
    let case = |name: &str, about: &str, smp, guests| Case {
        smp,
        order: Some(("attacker", "victim")),
        ..Case::new(name, about, guests)
    };
    let mut writing = pair(100, 0);
    writing[0].vcpus = 2;
    vec![
        case(
            "stale-beside-victim-on-1",
            "a victim's memory stays its own beside an attacker, on one CPU",
            1,
            pair(40, 0),
        ),
        case(
            "stale-beside-victim-on-2",
            "a victim's memory stays its own beside an attacker, on two CPUs",
            2,
            pair(250, 5),
        ),
        case(
            "stale-writer-beside-victim",
            "a victim's memory stays its own beside an attacker with two vCPUs",
            3,
            writing,
        ),
        case(
            "stale-attackers-beside-victim",
            "a victim's memory stays its own beside two attackers",
            2,
            vec![
                guest("attacker", "role=attacker peers=3 place=0 rounds=150 seed=5"),
                guest("second", "role=attacker peers=3 place=1 rounds=150 seed=6"),
                guest("victim", "role=victim peers=1,2 seed=7"),
            ],
        ),
        // Destroyed in the middle of it.
        case(
            "stale-destroyed-beside-victim",
            "an attacker destroyed in the middle leaves nothing that reaches its neighbour",
            2,
            vec![
                guest("attacker", "role=attacker peers=2 rounds=1000000 seed=15")
                    .destroyed_after(2500),
                guest("victim", "role=victim peers=1 seed=16"),
            ],
        ),
        // Each on a processor of its own: a switch to the victim would flush what the others have.
        case(
            "stale-granted-frames",
            "granted frames can't be written after they were revoked",
            3,
            vec![
                guest("granter", "role=granter peers=2 rounds=60 seed=8"),
                guest("attacker", "role=borrower peers=1,3 rounds=60 crossed=1 seed=9"),
                guest("victim", "role=victim peers=1,2 seed=10"),
            ],
        ),
    ]
}
