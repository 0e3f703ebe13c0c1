//! What calls cost, and how long they keep others waiting.

use crate::test::case::Case;
use crate::test::expect::latency::Latency;
use crate::test::spec::Spec;

/// Calls and traps that ask for as much work as they can. Under `--icount` the processor's counter
/// counts instructions, so what they keep others waiting for is the same in each run.
pub(super) fn long_calls() -> Vec<Case> {
    /// Table entries that one attempt may visit (the hypervisor's `work::ENTRIES`).
    const ENTRIES: u64 = 8192;
    /// Instructions for one entry, validated or dropped; the dearest of `bench` takes 50.
    const PER_ENTRY: u64 = 64;
    /// What came before a call is counted with it, so between two looks there may be twice as much.
    const BOUND: u64 = 2 * ENTRIES * PER_ENTRY;
    /// A call goes on until its vCPU's time is up: ten milliseconds.
    const SLICE: u64 = 10_000_000;
    let latency = Latency { ipi: BOUND, irq_off: SLICE + BOUND, sched: BOUND };
    let guest = || Spec::new("long_calls").with_vcpus(2);
    let case = |name: &str, about: &str, guests: Vec<Spec>| Case {
        limit: 300,
        latency: Some(latency),
        ..Case::new(name, about, guests)
    };
    vec![
        case(
            "long-calls",
            "the longest calls and traps delay IPIs, interrupts and the scheduler only for a bounded time",
            vec![guest()],
        ),
        case(
            "long-calls-beside",
            "the longest calls delay another domain only for a bounded time",
            vec![guest().with_cmdline("do=store,cr3,clear,churn"), Spec::new("hello")],
        ),
    ]
}

/// Costs are counted, not judged, but for what no count may be: a pin that is refused, which ends
/// the guest. Few mappings: the figures themselves are `bench --policies`.
pub(super) fn pin_cost() -> Case {
    Case {
        log_has: vec![
            "CURVE policy=targeted+pool aliases=4 outstanding=1000",
            "CURVE policy=upcall aliases=4 outstanding=1000",
        ],
        ..Case::new(
            "pin-cost",
            "a pin succeeds under each policy of the shim, with up to 1,000 lazy mappings outstanding",
            vec![Spec::new("pin_cost").with_cmdline("most=1000")],
        )
    }
}
